package mountprog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/testnode"

	"golang.org/x/sys/unix"
)

// TestMount is the whole way: mount, use, status, sync, unmount, nothing left.
func TestMount(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		if err := os.Mkdir(filepath.Join(b.node.Home, "bundle"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(filepath.Join(b.node.Home, "bundle"), 0o777), os.Chmod(b.mountpoint, 0o750)); err != nil {
			t.Fatal(err)
		}
		b.must("bundlefs", b.args("bundle", "-o", "fsname=test:bundle")...)
		m, err := mountpoint.Find(b.mountpoint)
		if err != nil || m == nil || m.Type != "fuse.bundlefs" || m.Source != "test:bundle" {
			t.Fatalf("mounted when it said so: %+v %v", m, err)
		}
		b.must("sh", "-c", `echo hello >"$1/a b" && ls -l "$1" && cat "$1/a b"`, "sh", b.mountpoint)
		if got, err := os.ReadFile(filepath.Join(b.node.Home, "bundle", "a b")); err != nil || string(got) != "hello\n" {
			t.Errorf("on the node: %q %v", got, err)
		}
		s := b.status()
		if s.Mountpoint != b.mountpoint || s.Source != b.source("bundle") || s.Version == "" || s.Mode != "shared" || !s.Connected {
			t.Errorf("status: %+v", s)
		}
		b.leftTerminal(s.PID)
		if out := b.must("bundlefs", "status", b.mountpoint); !strings.Contains(out, "source       "+b.source("bundle")+"\n") {
			t.Errorf("status: %s", out)
		}
		if out := b.must("bundlefs", "sync", "--json", b.mountpoint); !strings.HasSuffix(out, `{"result":{}}`+"\n") {
			t.Errorf("sync: %s", out)
		}
		if out := b.must("bundlefs", "sync", b.mountpoint); out != "" {
			t.Errorf("sync: %s", out)
		}
		b.fails("already mounted by bundlefs", "bundlefs unmount "+b.mountpoint, "bundlefs", b.args("")...)
		b.must("bundlefs", "unmount", b.mountpoint)
		// What follows the answer is only the process's own end.
		if m, err := mountpoint.Find(b.mountpoint); m != nil || err != nil {
			t.Errorf("still mounted: %+v %v", m, err)
		}
		if st, err := os.Stat(b.mountpoint); err != nil || st.Mode().Perm() != 0o750 {
			t.Errorf("the folder underneath: %v %v", st.Mode(), err)
		}
		b.gone(s.PID)
	})
}

// leftTerminal checks that a process has a session of its own, is in / and has no terminal.
func (b *bench) leftTerminal(pid int) {
	b.t.Helper()
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		b.t.Errorf("session %d of process %d: %v", sid, pid, err)
	}
	for link, want := range map[string]string{"cwd": "/", "fd/0": os.DevNull, "fd/1": os.DevNull, "fd/2": os.DevNull} {
		if got, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), link)); err != nil || got != want {
			b.t.Errorf("%s of process %d: %s %v, want %s", link, pid, got, err, want)
		}
	}
}

// TestCovered looks under the mount, where nothing can be written.
func TestCovered(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		under, err := os.Open(b.mountpoint)
		if err != nil {
			t.Fatal(err)
		}
		defer under.Close()
		b.must("bundlefs", b.args("")...)
		if st, err := under.Stat(); err != nil || st.Mode().Perm() != 0o500 {
			t.Errorf("underneath: %v %v", st.Mode(), err)
		}
		if fd, err := unix.Openat(int(under.Fd()), "x", unix.O_CREAT|unix.O_WRONLY, 0o600); err == nil {
			unix.Close(fd)
			var st unix.Statx_t
			if unix.Statx(int(under.Fd()), "", unix.AT_EMPTY_PATH, 0, &st) == nil && st.Attributes_mask&unix.STATX_ATTR_IMMUTABLE != 0 && b.uid == 0 {
				t.Error("a file was made under the mount")
			}
			unix.Unlinkat(int(under.Fd()), "x", 0)
		}
		pid := b.status().PID
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(pid)
	})
}

func TestForeground(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			p := b.start("bundlefs", b.args("", "-f", "-d")...)
			b.mounted()
			b.must("ls", b.mountpoint)
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if code := p.wait(); code != ExitOK {
				t.Errorf("%v: exit code %d: %s", sig, code, p.err.String())
			}
			if !strings.Contains(p.err.String(), "LOOKUP") && !strings.Contains(p.err.String(), "OPENDIR") {
				t.Errorf("-d shows no requests: %s", p.err.String())
			}
			b.clean()
		}
	})
}

func TestUnmountedFromOutside(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		b.must("bundlefs", b.args("")...)
		pid := b.status().PID
		if b.uid == 0 {
			b.must("umount", b.mountpoint)
		} else {
			b.must("fusermount3", "-u", b.mountpoint)
		}
		b.gone(pid)
	})
}

func TestBusy(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		b.must("bundlefs", b.args("")...)
		pid := b.status().PID
		h := b.hold("used")
		b.fails("busy", "fuser -vm "+b.mountpoint, "bundlefs", "unmount", b.mountpoint)
		b.must("bundlefs", "sync", b.mountpoint)
		h.release()
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(pid)
	})
}

// TestInAnotherNamespace: a container has a copy of the mount. Who unmounts is told, and does not wait for it.
func TestInAnotherNamespace(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.must("bundlefs", b.args("")...)
	pid := b.status().PID
	flags := "-m"
	if b.uid != 0 {
		flags = "-Urm"
	}
	// It ends with its input.
	container := b.command("unshare", flags, "sh", "-c", "keep=$1\n"+testnode.DetachFUSE+"echo copied; read line", "sh", b.dir)
	in, inErr := container.StdinPipe()
	out, outErr := container.StdoutPipe()
	if err := errors.Join(inErr, outErr, container.Start()); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the mounts are not copied: %q %v", line, err)
	}
	b.fails("in use elsewhere", "/proc/[0-9]*/mountinfo", "bundlefs", "unmount", b.mountpoint)
	if b.find() != nil {
		t.Error("it is still mounted here")
	}
	b.fails("in use elsewhere", fmt.Sprintf("kill %d", pid), "bundlefs", "unmount", b.mountpoint)
	in.Close()
	_ = container.Wait()
	b.gone(pid)
}

// TestSignalWhenBusy: the mount leaves the tree at once, and serves its users to their end.
func TestSignalWhenBusy(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		b.must("bundlefs", b.args("")...)
		pid := b.status().PID
		h := b.hold("used")
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		await(t, "the mount leaves the tree", func() bool { return b.find() == nil })
		await(t, "the folder underneath comes back", func() bool {
			return b.run("sh", "-c", `touch "$1/x" && rm "$1/x"`, "sh", b.mountpoint).code == 0
		})
		b.fails("no bundlefs is mounted there", "", "bundlefs", "status", b.mountpoint)
		// Its place is free for the next.
		await(t, "the control socket is free", func() bool { return b.run("bundlefs", b.args("")...).code == 0 })
		next := b.status().PID
		h.write()
		h.release()
		await(t, "the first process ends", func() bool { return dead(pid) })
		if got, err := os.ReadFile(filepath.Join(b.node.Home, "used")); err != nil || string(got) != "written\n" {
			t.Errorf("written after the signal: %q %v", got, err)
		}
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(next)
	})
}

func TestSecondSignal(t *testing.T) {
	b := newBench(t, os.Getuid())
	p := b.start("bundlefs", b.args("", "-f")...)
	b.mounted()
	h := b.hold("used")
	p.signal(syscall.SIGTERM)
	await(t, "the mount leaves the tree", func() bool { return b.find() == nil })
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != ExitFailed {
		t.Errorf("exit code %d: %s", code, p.err.String())
	}
	h.release()
	b.clean()
}

// TestKilled: after kill -9 the mount is dead; the next mount or unmount cleans up.
func TestKilled(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		kill := func() {
			t.Helper()
			b.must("bundlefs", b.args("")...)
			pid := b.status().PID
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			await(t, "the process is gone", func() bool { return dead(pid) })
			b.fails("the bundlefs that served it is gone", "bundlefs unmount "+b.mountpoint, "bundlefs", "status", b.mountpoint)
		}
		kill()
		if r := b.run("bundlefs", b.args("")...); r.code != 0 || !strings.Contains(r.err, "removed the dead mount of "+b.source("")) {
			t.Errorf("mount again: %d %s", r.code, r.err)
		}
		pid := b.status().PID
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(pid)

		kill()
		b.must("bundlefs", "unmount", b.mountpoint)
		b.clean()

		// The dead mount was removed by hand: the folder is still closed.
		kill()
		if b.uid == 0 {
			b.must("umount", b.mountpoint)
		} else {
			b.must("fusermount3", "-u", b.mountpoint)
		}
		b.must("bundlefs", "unmount", b.mountpoint)
		b.clean()
	})
}

// TestForeignMount: a dead mount of another program is not touched.
func TestForeignMount(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.must("bundlefs", b.args("", "-o", "subtype=other")...)
	pid := b.status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the process is gone", func() bool { return dead(pid) })
	b.fails("is a dead mount of", "fusermount3 -u "+b.mountpoint, "bundlefs", b.args("")...)
	b.must("bundlefs", "unmount", b.mountpoint)
	b.clean()
}

// deaf is a node that accepts connections and never says anything; the channel tells of each.
func deaf(t *testing.T) (port string, accepted <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			c <- struct{}{}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), c
}

func TestInterruptedWhileConnecting(t *testing.T) {
	port, accepted := deaf(t)
	b := newBench(t, os.Getuid())
	for _, f := range []string{"-f", "--foreground=false"} {
		p := b.start("bundlefs", b.args("", "-p", port, f)...)
		<-accepted
		p.signal(syscall.SIGINT)
		if code := p.wait(); code != ExitInterrupted || p.err.String() != "bundlefs: interrupted\n" {
			t.Errorf("%s: exit code %d: %s", f, code, p.err.String())
		}
		b.clean()
	}
}

// TestParentGone: a mount that nobody was told of does not stay.
func TestParentGone(t *testing.T) {
	b := newBench(t, os.Getuid())
	link := testnode.NewLink(t, b.node.Addr)
	link.Pause()
	b.viaLink(link)
	p := b.start("bundlefs", b.args("", "-p", strconv.Itoa(link.Port()))...)
	var child int
	await(t, "the child starts", func() bool { child = childOf(p.cmd.Process.Pid); return child != 0 })
	p.signal(syscall.SIGKILL)
	await(t, "the parent is gone", func() bool { return dead(p.cmd.Process.Pid) })
	link.Resume()
	await(t, "the child ends", func() bool { return dead(child) })
	p.wait()
	b.clean()
}

// childOf is a process that pid has started, 0 if there is none. Any of its threads may have.
func childOf(pid int) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		raw, _ := os.ReadFile(f)
		if list := strings.Fields(string(raw)); len(list) > 0 {
			child, _ := strconv.Atoi(list[0])
			return child
		}
	}
	return 0
}

func TestLogfile(t *testing.T) {
	b := newBench(t, os.Getuid())
	file := filepath.Join(b.dir, "log")
	b.must("bundlefs", b.args("", "-o", "sshfs_debug,logfile="+file)...)
	pid := b.status().PID
	b.must("ls", b.mountpoint)
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
	if raw, err := os.ReadFile(file); err != nil || !strings.Contains(string(raw), "OPENDIR") {
		t.Errorf("log: %v: %s", err, raw)
	}
}

// TestMountWithOptions tries those that a program can notice.
func TestMountWithOptions(t *testing.T) {
	b := newBench(t, os.Getuid())
	if err := os.WriteFile(filepath.Join(b.node.Home, "file"), []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.mountpoint, "covered"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.must("bundlefs", b.args("", "-o", "ro,uid=12,gid=13,umask=077,noexec,nonempty")...)
	pid := b.status().PID
	if out := b.must("stat", "-c", "%u %g %a", filepath.Join(b.mountpoint, "file")); out != "12 13 700\n" {
		t.Errorf("uid, gid, umask: %s", out)
	}
	if r := b.run("touch", filepath.Join(b.mountpoint, "new")); r.code == 0 || !strings.Contains(r.err, "Read-only") {
		t.Errorf("ro: %d %s", r.code, r.err)
	}
	if r := b.run("sh", "-c", filepath.Join(b.mountpoint, "file")); r.code == 0 {
		t.Error("noexec: a program was started")
	}
	if m := b.find(); m == nil {
		t.Error("not mounted")
	}
	b.must("bundlefs", "unmount", b.mountpoint, "--json")
	b.gone(pid)
	if _, err := os.Stat(filepath.Join(b.mountpoint, "covered")); err != nil {
		t.Error(err)
	}
}

func (b *bench) status() report {
	b.t.Helper()
	var s report
	out := b.must("bundlefs", "status", "--json", b.mountpoint)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		b.t.Fatalf("status: %v: %s", err, out)
	}
	return s
}

// Who sees a mount before its process has taken note of it is served when it has; who asks while it connects is told so.
func TestAskedEarly(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.must("bundlefs", b.args("")...)
	early := &serving{cfg: &mountConfig{mountpoint: b.mountpoint}, serves: make(chan struct{})}
	asked := make(chan *fs.Server)
	go func() { asked <- early.ready(t.Context()) }()
	select {
	case server := <-asked:
		t.Errorf("there is %v already", server)
	case <-time.After(50 * time.Millisecond):
		server := new(fs.Server)
		early.server.Store(server)
		close(early.serves)
		if <-asked != server {
			t.Error("it is not what came")
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	never := &serving{cfg: early.cfg, serves: make(chan struct{})}
	if server := never.ready(ended); server != nil {
		t.Errorf("nothing came, and there is %v", server)
	}
	b.must("bundlefs", "unmount", b.mountpoint)
	if server := never.ready(t.Context()); server != nil {
		t.Errorf("nothing is mounted, and there is %v", server)
	}
}
