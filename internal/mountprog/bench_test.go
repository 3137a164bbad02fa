package mountprog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/control"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// nobody is the ordinary user that the tests take when they run as root.
const nobody = 65534

// bench is a node, a mount point, and a user who mounts.
type bench struct {
	t          *testing.T
	uid        int
	node       *testnode.Node
	target     remote.Target
	dir        string // of everything, reachable by the user
	mountpoint string
	env        []string
}

// forEachUser runs a test as whoever runs the tests and, if that is root, as an ordinary user too.
func forEachUser(t *testing.T, test func(*testing.T, *bench)) {
	t.Helper()
	if os.Getuid() != 0 {
		test(t, newBench(t, os.Getuid()))
		return
	}
	t.Run("root", func(t *testing.T) { test(t, newBench(t, 0)) })
	t.Run("user", func(t *testing.T) { test(t, newBench(t, nobody)) })
}

func newBench(t *testing.T, uid int) *bench {
	t.Helper()
	node := testnode.Start(t) // ends after the mount
	b := newUser(t, uid)
	b.node, b.target = node, node.Target()
	b.target.IdentityFile = b.own(b.target.IdentityFile)
	return b
}

// newUser is a bench without a node.
func newUser(t *testing.T, uid int) *bench {
	t.Helper()
	b := &bench{t: t, uid: uid}
	// Not t.TempDir, which only its owner can enter; and short, for the socket.
	dir, err := os.MkdirTemp("", "mount")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if b.dir, err = control.Canonical(dir); err != nil {
		t.Fatal(err)
	}
	b.mountpoint = filepath.Join(b.dir, "m")
	state, run := filepath.Join(b.dir, "state"), filepath.Join(b.dir, "run")
	for _, err := range []error{
		os.Mkdir(b.mountpoint, 0o700), os.Mkdir(state, 0o700), os.Mkdir(run, 0o700),
		os.Chown(b.dir, uid, -1), os.Chown(b.mountpoint, uid, -1), os.Chown(state, uid, -1), os.Chown(run, uid, -1),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A race-enabled program waits a second at its end, unless told not to.
	b.env = append(os.Environ(), "HOME="+b.dir, "XDG_STATE_HOME="+state, "XDG_RUNTIME_DIR="+run, "GORACE=atexit_sleep_ms=0")
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	} else if st, _ := f.Stat(); uid != os.Getuid() && st.Mode().Perm() != 0o666 {
		// As udev leaves it where there is udev.
		if err := f.Chmod(0o666); err != nil {
			t.Fatal(err)
		}
		f.Close()
	} else {
		f.Close()
	}
	t.Cleanup(b.cleanup)
	return b
}

// cleanup ends what a failed test has left.
func (b *bench) cleanup() {
	if b.find() != nil {
		b.t.Errorf("left mounted: %s", b.mountpoint)
		mountpoint.Unmount(b.mountpoint, true)
	}
	for _, env := range b.env {
		if k, v, _ := strings.Cut(env, "="); k == "XDG_STATE_HOME" {
			b.t.Setenv(k, v)
		}
	}
	mountpoint.Recover(b.mountpoint)
}

func (b *bench) source(dir string) string { return b.target.User + "@" + b.target.Host + ":" + dir }

// args are those that mount dir of the node; later ones win.
func (b *bench) args(dir string, more ...string) []string {
	a := []string{b.source(dir), b.mountpoint, "-F", "none", "-p", b.node.Addr[strings.LastIndex(b.node.Addr, ":")+1:],
		"-o", "IdentityFile=" + b.target.IdentityFile}
	for k, v := range b.target.Options {
		if k == "UserKnownHostsFile" {
			v = b.own(v)
		}
		a = append(a, "-o", k+"="+v)
	}
	return append(a, more...)
}

// own makes a copy of a file that the user can read, and returns its name.
func (b *bench) own(file string) string {
	b.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	mine := filepath.Join(b.dir, filepath.Base(file))
	if err := errors.Join(os.WriteFile(mine, raw, 0o600), os.Chown(mine, b.uid, -1)); err != nil {
		b.t.Fatal(err)
	}
	return mine
}

// viaLink makes the node's host key known under the port of a link.
func (b *bench) viaLink(l *testnode.Link) {
	t := b.node.TargetVia(l)
	t.IdentityFile = b.target.IdentityFile
	b.target = t
}

func (b *bench) find() *mountpoint.Mount {
	b.t.Helper()
	m, err := mountpoint.Find(b.mountpoint)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// mounted waits until a mount in the foreground can be used.
func (b *bench) mounted() {
	b.t.Helper()
	await(b.t, "the mount", func() bool { return b.run("bundlefs", "status", b.mountpoint).code == 0 })
}

// clean checks that nothing is left of a mount on this machine but the folder, open again.
func (b *bench) clean() {
	b.t.Helper()
	if m := b.find(); m != nil {
		b.t.Errorf("still mounted: %+v", m)
	}
	if st, err := os.Stat(b.mountpoint); err != nil || st.Mode().Perm()&0o200 == 0 {
		b.t.Errorf("the folder underneath: %v %v", st.Mode(), err)
	}
	for _, pattern := range []string{"state/bundlefs/*", "run/bundlefs/*"} {
		if left, _ := filepath.Glob(filepath.Join(b.dir, pattern)); len(left) > 0 {
			b.t.Errorf("left behind: %v", left)
		}
	}
}

// gone waits for a mount process to end, and checks that nothing is left.
func (b *bench) gone(pid int) {
	b.t.Helper()
	await(b.t, "the mount process ends", func() bool { return dead(pid) })
	b.clean()
}

// dead tells whether a process has ended, also when nobody has asked for its exit code yet.
func dead(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(raw), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

type process struct {
	b        *bench
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

// command makes a command of the user. "bundlefs" is the program under test.
func (b *bench) command(name string, args ...string) *exec.Cmd {
	path := name
	if name == "bundlefs" {
		path = "/proc/self/exe"
	}
	cmd := exec.Command(path, args...)
	cmd.Args[0] = name
	cmd.Env, cmd.Dir = b.env, b.dir
	if b.uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(b.uid), Gid: uint32(b.uid)}}
	}
	return cmd
}

func (b *bench) start(name string, args ...string) *process {
	b.t.Helper()
	p := &process{b: b, cmd: b.command(name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.b.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.b.t.Fatal(err)
	}
}

func (p *process) wait() int {
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		p.b.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

type result struct {
	code     int
	out, err string
}

func (b *bench) run(name string, args ...string) result {
	b.t.Helper()
	p := b.start(name, args...)
	code := p.wait()
	return result{code, p.out.String(), p.err.String()}
}

// must runs a command that succeeds, and returns its output.
func (b *bench) must(name string, args ...string) string {
	b.t.Helper()
	r := b.run(name, args...)
	if r.code != 0 {
		b.t.Fatalf("%s %q: exit code %d: %s", name, args, r.code, r.err)
	}
	return r.out
}

// fails runs a command that exits with 1 and says why, and what to do unless that is "".
func (b *bench) fails(cause, hint, name string, args ...string) {
	b.t.Helper()
	r := b.run(name, args...)
	if r.code != ExitFailed || !strings.Contains(r.err, cause) || hint != "" && !strings.Contains(r.err, "bundlefs: hint: "+hint) && !strings.Contains(r.err, hint) {
		b.t.Errorf("%s %q: exit code %d: %s, want …%s… and the hint …%s…", name, args, r.code, r.err, cause, hint)
	}
}

// holder is a process that has a file of the mount open for writing.
type holder struct {
	*process
	in io.WriteCloser
}

func (b *bench) hold(name string) *holder {
	b.t.Helper()
	cmd := b.command("sh", "-c", `exec 3>"$1" && echo open && read line && echo written >&3 && exec 3>&- && echo closed && read line`, "sh", filepath.Join(b.mountpoint, name))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		b.t.Fatalf("hold %s: %q %v", name, line, err)
	}
	return &holder{&process{b: b, cmd: cmd}, in}
}

// write lets the holder write into its file and close it.
func (h *holder) write() {
	h.b.t.Helper()
	if _, err := io.WriteString(h.in, "go\n"); err != nil {
		h.b.t.Fatal(err)
	}
}

// release ends the holder.
func (h *holder) release() {
	h.in.Close()
	h.wait()
}
