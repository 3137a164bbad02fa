package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bundlefs/internal/coarse"
	"bundlefs/internal/lease"
	"bundlefs/internal/mountpoint"
)

// ours is the peer that the others are compared with.
const ours = "bundlefs"

// patience is how long one command of a measurement may take.
const patience = 20 * time.Minute

// peer is one way to work in a folder of the node.
type peer struct {
	name    string
	program string // what must be installed, "" for bundlefs itself
	patient bool   // waits for the node with each file

	// Of a peer that mounts: the command that stays in the foreground.
	mount     func(b *bench, dir, point string) *exec.Cmd
	exclusive bool
	barrier   bool // what is written is on the node only after `bundlefs sync`

	// Of a peer that copies: from and to the folder dir/t on the node.
	push, pull func(b *bench, local, dir string) *exec.Cmd
}

var allPeers = []*peer{
	{name: ours, exclusive: true, barrier: true, mount: func(b *bench, dir, point string) *exec.Cmd {
		return b.bundlefs("-f", "node:"+dir, point, "-F", b.config, "-o", "exclusive="+token)
	}},
	{name: "shared", patient: true, barrier: true, mount: func(b *bench, dir, point string) *exec.Cmd {
		return b.bundlefs("-f", "node:"+dir, point, "-F", b.config)
	}},
	{name: "sshfs", program: "sshfs", patient: true, mount: func(b *bench, dir, point string) *exec.Cmd {
		return exec.Command("sshfs", "-f", "node:"+dir, point, "-F", b.config)
	}},
	{name: "rclone", program: "rclone", patient: true, mount: func(b *bench, dir, point string) *exec.Cmd {
		return exec.Command("rclone", "mount", ":sftp:"+dir, point, "--config", "/dev/null", "--sftp-host", "127.0.0.1", "--sftp-port", strconv.Itoa(b.port),
			"--sftp-user", b.node.User, "--sftp-key-file", b.node.KeyFile, "--sftp-known-hosts-file", b.node.KnownHosts, "--vfs-cache-mode", "off")
	}},
	{
		name: "rsync", program: "rsync",
		push: func(b *bench, local, dir string) *exec.Cmd {
			return exec.Command("rsync", "-a", "-e", "ssh -F "+b.config, local+"/", "node:"+dir+"/t/")
		},
		pull: func(b *bench, local, dir string) *exec.Cmd {
			return exec.Command("rsync", "-a", "-e", "ssh -F "+b.config, "node:"+dir+"/t/", local+"/")
		},
	},
	{
		name: "tar", program: "tar",
		push: func(b *bench, local, dir string) *exec.Cmd {
			return shell(`tar cf - -C "$1" . | ssh -F "$2" node "mkdir $3/t && tar xf - -C $3/t"`, local, b.config, dir)
		},
		pull: func(b *bench, local, dir string) *exec.Cmd {
			return shell(`mkdir "$1" && ssh -F "$2" node "tar cf - -C $3/t ." | tar xf - -C "$1"`, local, b.config, dir)
		},
	},
	{
		name: "scp", program: "scp", patient: true,
		push: func(b *bench, local, dir string) *exec.Cmd {
			return exec.Command("scp", "-q", "-r", "-F", b.config, local, "node:"+dir+"/t")
		},
		pull: func(b *bench, local, dir string) *exec.Cmd {
			return exec.Command("scp", "-q", "-r", "-F", b.config, "node:"+dir+"/t", local)
		},
	},
	{name: "ansible", program: "ansible-playbook", patient: true},
	{name: "fabric", program: "fab", patient: true},
}

// shell makes a command of a script whose pipelines fail with their parts.
func shell(script string, args ...string) *exec.Cmd {
	return exec.Command("bash", append([]string{"-c", "set -euo pipefail; " + script, "bash"}, args...)...)
}

// token is that of the owner record in the folders of exclusive mode.
const token = "0123456789abcdef0123456789abcdef"

func writeRecord(dir string) error {
	return os.WriteFile(filepath.Join(dir, lease.RecordName), []byte(`{"token":"`+token+`"}`), 0o600)
}

// bundlefs makes a command of this very binary.
func (b *bench) bundlefs(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "bundlefs"
	return cmd
}

// run runs a command of a measurement; the end of the context kills it.
func (b *bench) run(cmd *exec.Cmd) error {
	var out bytes.Buffer
	b.prepare(cmd)
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		return err
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	timeout := time.AfterFunc(patience, kill)
	defer timeout.Stop()
	stop := context.AfterFunc(b.ctx, kill)
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// prepare gives a command the environment of the measurements, and a process group of its own.
func (b *bench) prepare(cmd *exec.Cmd) {
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// mounted is a mount that a peer serves.
type mounted struct {
	b     *bench
	p     *peer
	point string
	cmd   *exec.Cmd
	out   bytes.Buffer
	ended chan struct{}
	took  time.Duration // until it could be used
	peak  int64         // of its resident memory, in bytes, once it was asked for
	cpu   time.Duration // of its processor time, once it has ended
}

// mount mounts a folder of the node and waits until it can be used.
func (b *bench) mount(p *peer, dir string) (*mounted, error) {
	b.count++
	m := &mounted{b: b, p: p, point: filepath.Join(b.dir, fmt.Sprintf("mount%d", b.count)), ended: make(chan struct{})}
	if err := os.Mkdir(m.point, 0o755); err != nil {
		return nil, err
	}
	m.cmd = p.mount(b, dir, m.point)
	b.prepare(m.cmd)
	m.cmd.Stdout, m.cmd.Stderr = &m.out, &m.out
	started := time.Now()
	start := m.cmd.Start
	if p.barrier { // as bundlefs starts itself where it is not told to stay in the foreground
		start = func() error { return coarse.Start(m.cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait()
		close(m.ended)
	}()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		found, err := mountpoint.Find(m.point)
		if err != nil {
			return nil, errors.Join(err, m.kill())
		}
		if found != nil {
			// Some mount first and connect then.
			if _, err := os.Stat(m.point); err != nil {
				return nil, errors.Join(err, m.kill())
			}
			m.took = time.Since(started)
			return m, nil
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			return nil, errors.Join(fmt.Errorf("%s does not mount", p.name), m.kill())
		case <-m.ended:
			return nil, errors.Join(fmt.Errorf("%s does not mount: %s", p.name, strings.TrimSpace(m.out.String())), m.kill())
		}
	}
}

// sync waits until all is on the node.
func (m *mounted) sync() error {
	if !m.p.barrier {
		return nil
	}
	return m.b.run(m.b.bundlefs("sync", m.point))
}

// memory reads the peak of the resident memory.
func (m *mounted) memory() error {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	if f := strings.Fields(rest); len(f) > 0 {
		kib, err := strconv.ParseInt(f[0], 10, 64)
		m.peak = kib << 10
		return err
	}
	return errors.New("no VmHWM in /proc/PID/status")
}

// end unmounts and waits for the process. A copy in the mount namespace of another test keeps a mount for as long as that runs.
func (m *mounted) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patienceAfter)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		err := mountpoint.Unmount(m.point, false)
		if err == nil || errors.Is(err, syscall.EINVAL) { // not mounted
			break
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s cannot be unmounted: %w", m.p.name, err), m.kill())
		}
	}
	select {
	case <-m.ended:
		st := m.cmd.ProcessState
		m.cpu = st.SystemTime() + st.UserTime()
		return os.Remove(m.point)
	case <-ctx.Done():
		// A Go program then tells what it waits for.
		_ = m.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-m.ended:
		case <-time.After(time.Second):
		}
		err := m.kill()
		return errors.Join(fmt.Errorf("%s does not end: %s", m.p.name, m.out.String()), err)
	}
}

// kill ends the process and takes the mount away, whatever uses it.
func (m *mounted) kill() error {
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
	<-m.ended
	if err := mountpoint.Unmount(m.point, true); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	_, err := mountpoint.Recover(m.point)
	return err
}
