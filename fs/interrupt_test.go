package fs_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/internal/testnode"
)

// waitPlace is where the kernel waits for an answer of a FUSE mount: for that of a request of
// the process itself, or for a page that is read ahead.
var waitPlace = regexp.MustCompile("request_wait_answer|fuse|folio_wait|wait_on_page")

// waiting reports whether a process waits for an answer of the mount.
func waiting(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	return err == nil && waitPlace.Match(b)
}

// openFar makes a file on the node and opens it in the mount, far behind what may be fetched ahead
// when it is opened.
func openFar(t *testing.T, m *mount) *os.File {
	t.Helper()
	const size = 64 << 20
	if err := errors.Join(os.WriteFile(filepath.Join(m.Node, "f"), nil, 0o644), os.Truncate(filepath.Join(m.Node, "f"), size)); err != nil {
		t.Fatal(err)
	}
	m.tell(t, "drop")
	f, err := os.Open(filepath.Join(m.Dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(size/2, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

// What waits for a node that does not answer can be ended, and the mount too.
func TestInterruptedWhenTheLinkIsDown(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) { interruptedWhenTheLinkIsDown(t, mode.exclusive) })
	}
}

func interruptedWhenTheLinkIsDown(t *testing.T, exclusive bool) {
	n := testnode.Start(t)
	l := testnode.NewLink(t, n.Addr)
	m := newLinkedMount(t, n, l, exclusive, mountSpec{Timeout: -1})
	f := openFar(t, m)
	defer f.Close()
	l.Drop()
	const catches = `import signal, sys, os
signal.signal(signal.SIGTERM, lambda *a: sys.exit(3))
os.mkdir(sys.argv[1])
os.fsync(os.open(sys.argv[1], os.O_RDONLY))`
	for _, c := range []struct {
		name   string
		cmd    *exec.Cmd
		stdin  *os.File
		signal syscall.Signal
	}{
		{"killed", exec.Command("/bin/cat"), f, syscall.SIGKILL},
		{"interrupted", exec.Command("/bin/cat"), f, syscall.SIGINT},
		{"catches", exec.Command("/usr/bin/python3", "-c", catches, filepath.Join(m.Dir, "d")), nil, syscall.SIGTERM},
	} {
		if c.stdin != nil {
			c.cmd.Stdin = c.stdin
		}
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the process waits", func() bool { return waiting(c.cmd.Process.Pid) })
		start := time.Now()
		if err := c.cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := c.cmd.Wait(); !errors.As(err, &exit) {
			t.Errorf("%s: %v", c.name, err)
		}
		t.Logf("%s: ended after %v", c.name, time.Since(start))
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if errno := m.unmount(t); errno != 0 {
		t.Errorf("unmount with the link down: %v", errno)
	}
	l.Heal() // in exclusive mode the new folder waits for the node
	m.stop(t)
}

// Signals that do not ask a program to end do not break off what it does, however
// long that takes: here, longer than an interrupted request is waited for.
func TestRoutineSignalsDoNotInterrupt(t *testing.T) {
	n := testnode.Start(t)
	l := testnode.NewLink(t, n.Addr)
	m := newMount(t, n, n.TargetVia(l))
	const script = `import signal, sys, os
for s in signal.SIGURG, signal.SIGALRM, signal.SIGCHLD: signal.signal(s, lambda *a: None)
print("ready", flush=True)
sys.stdin.readline()
os.mkdir(sys.argv[1])
os._exit(0) # at its end Python takes the handlers away`
	cmd := exec.Command("/usr/bin/python3", "-c", script, filepath.Join(m.Dir, "d"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	l.SetRTT(1600 * time.Millisecond)
	fmt.Fprintln(stdin, "go")
	eventually(t, "the process waits", func() bool { return waiting(cmd.Process.Pid) })
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%v: %s", err, said.String())
			}
			l.SetRTT(0)
			if info, err := os.Stat(filepath.Join(m.Node, "d")); err != nil || !info.IsDir() {
				t.Errorf("%v, %v", info, err)
			}
			return
		case <-tick.C:
			_ = cmd.Process.Signal([]os.Signal{syscall.SIGURG, syscall.SIGALRM, syscall.SIGCHLD}[i%3])
		}
	}
}
