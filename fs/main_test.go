package fs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bundlefs/fs"
	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// serveEnv makes the test binary serve a mount: a process must not work on a
// mount of its own.
const serveEnv = "BUNDLEFS_TEST_SERVE"

// mountSpec is what the serving process is told.
type mountSpec struct {
	Target     remote.Target
	Mountpoint string
	Root       string // in the home folder; made if it does not exist
	Timeouts   time.Duration
	Timeout    time.Duration
	ReadOnly   bool
	AllowOther bool
	AllowRoot  bool
	Options    []string
	Spool      string // of exclusive mode; "" is shared mode
	LinksOut   bool   // links may lead out of the mount
	Debug      bool

	as *user // who serves; nil is who runs the tests
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(serveEnv); spec != "" {
		if err := serveMount(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serveMount serves a mount until it is told to unmount it, or somebody else does.
// After a failure to unmount it goes on.
func serveMount(spec string) error {
	var s mountSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	before := openFiles()
	level := slog.LevelError + 1 // errors that tests provoke are not worth a line
	if s.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	var exclusive *fs.Exclusive
	if s.Spool != "" {
		exclusive = &fs.Exclusive{Spool: s.Spool}
	}
	contain := !s.LinksOut
	server, err := fs.Mount(context.Background(), s.Mountpoint, fs.Options{
		Exclusive: exclusive,
		Dial: func(ctx context.Context) (fs.Conn, error) {
			c, err := remote.Dial(ctx, s.Target, remote.Options{Log: log})
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Root:         s.Root,
		Name:         "node:" + s.Root,
		EntryTimeout: s.Timeouts, AttrTimeout: s.Timeouts, NegativeTimeout: s.Timeouts,
		ContainSymlinks: &contain,
		Timeout:         s.Timeout,
		ReadOnly:        s.ReadOnly, AllowOther: s.AllowOther, AllowRoot: s.AllowRoot, MountOptions: s.Options,
		Debug: s.Debug,
		Log:   log,
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	told := make(chan error)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if in.Text() == "drop" {
				server.Drop()
				fmt.Println(0)
				continue
			}
			fmt.Println(int(vfs.Errno(server.Unmount())))
		}
		told <- server.Unmount() // at the end of the test, if not before
	}()
	if err := <-told; err != nil {
		return err
	}
	server.Wait()
	if err := server.Sync(context.Background(), nil); err != nil {
		return err
	}
	if err := server.Close(); err != nil {
		return err
	}
	return left(before)
}

// openFiles are the descriptors of this process, with what they are of.
func openFiles() map[string]string {
	open := map[string]string{}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if of, err := os.Readlink(fd); err == nil {
			open[fd] = of
		}
	}
	return open
}

// left tells what a file system that is closed has left: goroutines, and descriptors but those
// of the runtime and the pools of go-fuse.
func left(before map[string]string) error {
	err := goleak.Find()
	for fd, of := range openFiles() {
		if before[fd] != of && of != os.DevNull && !strings.HasPrefix(of, "anon_inode:[event") && !strings.HasPrefix(of, "pipe:") {
			err = errors.Join(err, fmt.Errorf("%s is left open: %s", fd, of))
		}
	}
	return err
}

// mount is a mounted folder of a node under test.
type mount struct {
	Dir  string // here
	Node string // the same folder on the node, which is this machine

	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	ended bool
}

// newMount mounts a fresh folder of the node.
func newMount(t *testing.T, n *testnode.Node, target remote.Target) *mount {
	t.Helper()
	return newMountWith(t, n, mountSpec{Target: target})
}

// newExclusiveMount mounts a fresh folder of the node, as its only writer.
func newExclusiveMount(t *testing.T, n *testnode.Node, target remote.Target) *mount {
	t.Helper()
	return newMountWith(t, n, mountSpec{Target: target, Spool: filepath.Join(t.TempDir(), "spool")})
}

func newMountWith(t *testing.T, n *testnode.Node, spec mountSpec) *mount {
	t.Helper()
	if spec.Root == "" {
		spec.Root = "mounted"
	}
	if spec.Timeouts == 0 {
		spec.Timeouts = time.Second
	}
	spec.Debug = os.Getenv("BUNDLEFS_TEST_DEBUG") != ""
	m := &mount{Node: filepath.Join(n.Home, spec.Root)}
	program := os.Args[0]
	if spec.as == nil {
		m.Dir = t.TempDir()
	} else {
		m.Dir = spec.as.dir(t, "mnt")
		program = spec.as.copy(t, program, 0o700)
		spec.Target.IdentityFile = spec.as.copy(t, spec.Target.IdentityFile, 0o600)
		spec.Target.Options["UserKnownHostsFile"] = spec.as.copy(t, spec.Target.Options["UserKnownHostsFile"], 0o600)
	}
	spec.Mountpoint = m.Dir
	if err := os.MkdirAll(m.Node, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command(program)
	m.cmd.Env = append(os.Environ(), serveEnv+"="+string(text))
	m.cmd.Dir = "/"
	m.cmd.Stderr = os.Stderr
	spec.as.command(m.cmd)
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.out = bufio.NewReader(out)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.stop(t) })
	if line, err := m.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("mount process said %q, %v", line, err)
	}
	return m
}

// unmount has the mount process unmount, and returns what came of it.
func (m *mount) unmount(t *testing.T) syscall.Errno { return m.tell(t, "unmount") }

// tell has the mount process do something, and returns what came of it.
func (m *mount) tell(t *testing.T, what string) syscall.Errno {
	t.Helper()
	if _, err := fmt.Fprintln(m.stdin, what); err != nil {
		t.Fatal(err)
	}
	var errno int
	if _, err := fmt.Fscanln(m.out, &errno); err != nil {
		t.Fatal(err)
	}
	return syscall.Errno(errno)
}

// stop ends the mount; it must not be busy any more.
func (m *mount) stop(t *testing.T) {
	t.Helper()
	if m.ended {
		return
	}
	m.ended = true
	m.stdin.Close()
	io.Copy(io.Discard, m.out)
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("mount process: %v", err)
		if err := exec.Command("umount", "-l", m.Dir).Run(); err != nil {
			t.Logf("umount -l: %v", err)
		}
	}
}

// fresh makes an empty folder in the mount for one test.
func (m *mount) fresh(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(m.Dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// user is an ordinary user other than who runs the tests.
type user struct {
	id   uint32
	home string
}

// nobody is such a user; nil, which is who runs the tests, if those are run by
// an ordinary user anyway.
func nobody(t *testing.T) *user {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	// Not t.TempDir, which only its owner can enter.
	home, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	return &user{65534, home}
}

// dir makes a folder of the user.
func (u *user) dir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(u.home, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(u.id), int(u.id)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copy gives the user a copy of a file.
func (u *user) copy(t *testing.T, from string, mode os.FileMode) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(u.home, filepath.Base(from))
	if err := os.WriteFile(to, b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(to, int(u.id), int(u.id)); err != nil {
		t.Fatal(err)
	}
	return to
}

// command makes a command run as the user.
func (u *user) command(cmd *exec.Cmd) *exec.Cmd {
	if u != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.id, Gid: u.id}}
	}
	return cmd
}

// shell runs a script in a folder as the user and returns what it printed.
func (u *user) shell(dir, script string) (string, error) {
	cmd := u.command(exec.Command("/bin/sh", "-ec", `cd "$1"; `+script, "sh", dir))
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatal("waited in vain until " + what)
		case <-poll.C:
		}
	}
}
