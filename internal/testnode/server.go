package testnode

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long sshd may take to listen, and a process to end.
const startTimeout = 10 * time.Second

// errAddressInUse says that another program has the port.
var errAddressInUse = errors.New("address already in use")

// server is one run of sshd's listener.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the listener has ended and was reaped
}

// startOnFreePort tries ports until sshd gets one.
func (n *Node) startOnFreePort() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.writeStatic(); err != nil {
		return err
	}
	for try := 0; ; try++ {
		if err := n.setPort(randomPort()); err != nil {
			return err
		}
		err := n.launch()
		if err == nil || !errors.Is(err, errAddressInUse) || try == 50 {
			return err
		}
		if err := os.Remove(n.KnownHosts); err != nil {
			return err
		}
	}
}

// randomPort returns a port below those that the kernel gives to outgoing connections, so that
// none of these takes it between a stop and a restart.
func randomPort() int { return 10000 + rand.IntN(22000) }

// writeStatic writes the files that stay as they are.
func (n *Node) writeStatic() error {
	if n.private {
		if err := n.writeUsers(); err != nil {
			return err
		}
	} else {
		script := fmt.Sprintf("#!/bin/sh\ncd '%s' || exit 1\nexec /bin/sh -c \"${SSH_ORIGINAL_COMMAND:-exec /bin/sh -l}\"\n",
			strings.ReplaceAll(n.Home, "'", `'\''`))
		if err := os.WriteFile(filepath.Join(n.dir, "login"), []byte(script), 0o755); err != nil {
			return err
		}
	}
	if len(n.opts.without) > 0 {
		if err := pathWithout(filepath.Join(n.dir, "bin"), n.opts.without); err != nil {
			return err
		}
	}
	if os.Getuid() == 0 {
		return os.MkdirAll("/run/sshd", 0o755) // sshd's privilege separation wants it
	}
	return nil
}

// writeServerConfig writes sshd_config for the node's port and host key.
func (n *Node) writeServerConfig() error {
	subsystem := "internal-sftp"
	if path, err := findProgram("sftp-server", "/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec"); err == nil {
		subsystem = path
	}
	env := []string{n.mark}
	if len(n.opts.without) > 0 {
		env = append(env, "PATH="+filepath.Join(n.dir, "bin"))
	}
	lines := append([]string{}, n.opts.config...)
	if !n.private {
		env = append(env, "HOME="+n.Home)
		lines = append(lines, "ForceCommand "+filepath.Join(n.dir, "login"))
	}
	lines = append(lines,
		"ListenAddress 127.0.0.1",
		"Port "+strconv.Itoa(n.Port),
		"HostKey "+n.hostKeyFile(),
		"AuthorizedKeysFile "+filepath.Join(n.dir, "authorized_keys"),
		"Subsystem sftp "+strings.Join(append([]string{subsystem}, n.opts.sftpArgs...), " "),
		"SetEnv "+strings.Join(env, " "),
		"PidFile none",
		"LogLevel VERBOSE",
		"UsePAM no",
		"UseDNS no",
		"StrictModes no",
		"PermitRootLogin yes",
		"PermitUserRC no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"AllowTcpForwarding yes",
		"MaxStartups 200",
		"MaxSessions 100",
		"PrintMotd no",
		"PrintLastLog no",
	)
	if n.hasPenalties() {
		lines = append(lines, "PerSourcePenalties no")
	}
	return os.WriteFile(n.configFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (n *Node) configFile() string { return filepath.Join(n.dir, "sshd_config") }
func (n *Node) logFile() string    { return filepath.Join(n.dir, "sshd.log") }

var versionPattern = regexp.MustCompile(`OpenSSH_(\d+)\.(\d+)`)

// hasPenalties says whether this sshd shuts clients out that fail too often: from 9.8 on. The
// word is an error before.
func (n *Node) hasPenalties() bool {
	out, _ := exec.Command(n.sshd, "-V").CombinedOutput()
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return major > 9 || major == 9 && minor >= 8
}

// launch starts the listener and waits until it listens. Called with the lock held.
func (n *Node) launch() error {
	offset := int64(0) // what earlier runs wrote to the log is not about this one
	if info, err := os.Stat(n.logFile()); err == nil {
		offset = info.Size()
	}
	s := &server{done: make(chan struct{})}
	// sshd starts itself anew for each connection, hence the absolute path.
	s.cmd = exec.Command(n.sshd, "-D", "-f", n.configFile(), "-E", n.logFile())
	s.cmd.Dir = "/"
	s.cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	var complaints bytes.Buffer
	s.cmd.Stderr = &complaints
	// The listener dies with the thread that started it: with the test program, even if that
	// is killed.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go onOwnThread(func() {
		defer close(s.done)
		if n.private {
			if err := enterNamespace(n.dir); err != nil {
				started <- err
				return
			}
		}
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", n.sshd, err)
	}
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		ended := false
		select {
		case <-s.done:
			ended = true
		case <-deadline.C:
			_ = s.cmd.Process.Kill()
			<-s.done
			return fmt.Errorf("%s does not listen on %s after %v:\n%s", n.sshd, n.Addr, startTimeout, n.log(offset))
		case <-poll.C:
		}
		log := n.log(offset)
		switch {
		case strings.Contains(log, "Server listening on 127.0.0.1 port "+strconv.Itoa(n.Port)+"."):
			n.server = s
			return nil
		case ended && strings.Contains(log, "Address already in use"):
			return fmt.Errorf("%s: %w", n.Addr, errAddressInUse)
		case ended:
			return fmt.Errorf("%s ended at once: %v\n%s%s", n.sshd, s.cmd.ProcessState, complaints.String(), log)
		}
	}
}

// Log returns what sshd has logged.
func (n *Node) Log() string { return n.log(0) }

// log returns what sshd logged from an offset on.
func (n *Node) log(offset int64) string {
	text, err := os.ReadFile(n.logFile())
	if err != nil || offset > int64(len(text)) {
		return ""
	}
	return string(text[offset:])
}
