package fs_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bundlefs/internal/testnode"
)

var (
	linkCuts = flag.Int("link.cuts", 100, "how often the tests of link loss cut the link")
	longCut  = flag.Duration("link.long", 3*time.Second, "how long the long cut is, against a timeout of 30 s")
)

// modes are the two kinds of mount.
var modes = []struct {
	name      string
	exclusive bool
}{{"Shared", false}, {"Exclusive", true}}

// newLinkedMount mounts a fresh folder over a link that can be cut. Its loss is
// noticed within seconds.
func newLinkedMount(t *testing.T, n *testnode.Node, link *testnode.Link, exclusive bool, spec mountSpec) *mount {
	t.Helper()
	spec.Target = n.TargetVia(link)
	spec.Target.Options["ServerAliveInterval"] = "1"
	spec.Target.Options["ServerAliveCountMax"] = "2"
	if exclusive {
		spec.Spool = filepath.Join(t.TempDir(), "spool")
	}
	return newMountWith(t, n, spec)
}

// TestCutsWhileCopying cuts the link at random moments while files are copied in
// and read back: every file is right, and nothing is stuck.
func TestCutsWhileCopying(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			n := testnode.Start(t)
			link := testnode.NewLink(t, n.Addr)
			link.SetRTT(4 * time.Millisecond)
			m := newLinkedMount(t, n, link, mode.exclusive, mountSpec{Timeout: -1})
			var enough atomic.Bool
			var workers sync.WaitGroup
			for w := range 3 {
				workers.Go(func() {
					for round := 0; !enough.Load(); round++ {
						if err := copyAround(m, fmt.Sprintf("w%d-%d", w, round)); err != nil {
							t.Errorf("worker %d, round %d: %v", w, round, err)
							return
						}
					}
				})
			}
			cutOften(t, link, *linkCuts/len(modes))
			enough.Store(true)
			workers.Wait()
			t.Logf("%d connections", link.Counters().Connections)
		})
	}
}

// cutOften cuts the link so many times, each time after it has been connected again:
// while sessions are opened, and while they are used.
func cutOften(t *testing.T, link *testnode.Link, cuts int) {
	for i := range cuts {
		timer := time.NewTimer(rand.N(400 * time.Millisecond))
		<-timer.C
		before := link.Counters().Connections
		if i%25 == 24 {
			link.Drop() // nobody is told
			timer.Reset(rand.N(500 * time.Millisecond))
			<-timer.C
			link.Heal()
			continue // a connection that had nothing under way goes on
		}
		link.Reset()
		again(t, link, before)
	}
}

// again waits until somebody has connected since. Attempts that are cut make the
// pauses between them longer.
func again(t *testing.T, link *testnode.Link, before int64) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for link.Counters().Connections == before {
		select {
		case <-deadline.C:
			t.Error("nobody has connected again")
			return
		case <-poll.C:
		}
	}
}

// copyAround writes a folder of files of all sizes, reads them back, compares them
// with what the node has, and removes some of them.
func copyAround(m *mount, name string) error {
	dir := filepath.Join(m.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	want := map[string][]byte{}
	for i := range 6 {
		file := fmt.Sprintf("f%d", i)
		data := make([]byte, rand.N(1<<(4+3*i)))
		for j := range data {
			data[j] = byte(rand.Uint32())
		}
		want[file] = data
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		for len(data) > 0 {
			k := min(len(data), 1+rand.N(64<<10))
			if _, err := f.Write(data[:k]); err != nil {
				return errors.Join(err, f.Close())
			}
			data = data[k:]
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(dir, "f0"), filepath.Join(dir, "renamed")); err != nil {
		return err
	}
	want["renamed"] = want["f0"]
	delete(want, "f0")
	for file, data := range want {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("%s/%s is read as %d bytes, which are not the %d that were written", name, file, len(got), len(data))
		}
	}
	if err := barrierOf(dir); err != nil {
		return err
	}
	for file, data := range want {
		got, err := os.ReadFile(filepath.Join(m.Node, name, file))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, data) {
			return fmt.Errorf("the node has %s/%s of %d bytes, which are not the %d that were written", name, file, len(got), len(data))
		}
	}
	return os.Remove(filepath.Join(dir, "f1"))
}

// TestServerRestarted kills the server while files are open, and starts it again.
func TestServerRestarted(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			n := testnode.Start(t)
			link := testnode.NewLink(t, n.Addr)
			m := newLinkedMount(t, n, link, mode.exclusive, mountSpec{Timeout: -1})
			// Another process has the file open: who forks with a file of the mount
			// open waits for its node, and here the node waits for the fork.
			cmd := exec.Command("/bin/sh", "-c", `exec 3>f; printf "before " >&3; echo; read line; printf after >&3; exec 3>&-`)
			cmd.Dir = m.Dir
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			n.Kill()
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			n.Restart()
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := barrierOf(m.Dir); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(m.Node, "f")); err != nil || string(b) != "before after" {
				t.Errorf("the node has %q, %v", b, err)
			}
			if b, err := os.ReadFile(filepath.Join(m.Dir, "f")); err != nil || string(b) != "before after" {
				t.Errorf("the mount has %q, %v", b, err)
			}
		})
	}
}

// TestLongCut cuts the link silently, for longer than the keepalives wait: what was
// open goes on by itself afterwards.
func TestLongCut(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			n := testnode.Start(t)
			link := testnode.NewLink(t, n.Addr)
			m := newLinkedMount(t, n, link, mode.exclusive, mountSpec{Timeout: -1})
			f, err := os.Create(filepath.Join(m.Dir, "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			link.Drop()
			done := make(chan error, 1)
			go func() {
				_, err := f.WriteString("written during the cut")
				done <- errors.Join(err, f.Sync())
			}()
			timer := time.NewTimer(*longCut)
			<-timer.C
			select {
			case err := <-done:
				t.Errorf("fsync has returned without the node: %v", err)
			default:
			}
			link.Heal()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(60 * time.Second):
				t.Fatal("nothing goes on after the cut")
			}
			if b, err := os.ReadFile(filepath.Join(m.Node, "f")); err != nil || string(b) != "written during the cut" {
				t.Errorf("the node has %q, %v", b, err)
			}
		})
	}
}

// TestUnmountDuringCut unmounts while the link is silent, with a long timeout and with
// none: while nothing is going on, and when who was waiting for the node has been killed.
// It ends at once; what that means in numbers is for a machine at rest.
func TestUnmountDuringCut(t *testing.T) {
	const timeout = 30 * time.Second
	ways := []string{"fusermount3 -u"}
	if os.Geteuid() == 0 {
		ways = append(ways, "umount")
	}
	for _, mode := range modes {
		for _, how := range ways {
			for _, limit := range []time.Duration{timeout, -1} {
				for _, busy := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%v/%v", mode.name, how, limit, busy), func(t *testing.T) {
						t.Parallel()
						n := testnode.Start(t)
						link := testnode.NewLink(t, n.Addr)
						// What the kernel knows of the root is forgotten at once.
						m := newLinkedMount(t, n, link, mode.exclusive, mountSpec{Timeout: limit, Timeouts: time.Millisecond})
						if busy {
							killReader(t, m, link)
						} else {
							link.Drop()
						}
						start := time.Now()
						cmd := exec.Command("/bin/sh", "-c", how+" "+m.Dir)
						if out, err := cmd.CombinedOutput(); err != nil {
							t.Fatalf("%v: %v %s", cmd, err, out)
						}
						unmounted := time.Since(start)
						m.stop(t)
						if unmounted > timeout/2 {
							t.Errorf("unmounted after %v", unmounted)
						}
						t.Logf("unmounted after %v, ended after %v", unmounted.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
					})
				}
			}
		}
	}
}

// killReader cuts the link, has a process wait in a read, and kills it.
func killReader(t *testing.T, m *mount, link *testnode.Link) {
	t.Helper()
	f := openFar(t, m)
	link.Drop()
	cmd := exec.Command("/bin/cat")
	cmd.Stdin = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process waits", func() bool { return waiting(cmd.Process.Pid) })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Errorf("the reader: %v", err)
	}
}

// TestUnmountAfterLoss unmounts after a write that the node did not answer.
func TestUnmountAfterLoss(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	m := newLinkedMount(t, n, link, false, mountSpec{Timeout: 500 * time.Millisecond})
	f, err := os.Create(filepath.Join(m.Dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	link.Drop()
	if _, err := f.WriteString("lost"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("close: %v, want ETIMEDOUT", err)
	}
	if out, err := exec.Command("fusermount3", "-u", m.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	m.stop(t)
}

// TestLocks: flock and fcntl locks hold between processes of a mount.
func TestLocks(t *testing.T) {
	n := testnode.Start(t)
	t.Run("Shared", func(t *testing.T) { locks(t, newMount(t, n, n.Target())) })
	t.Run("Exclusive", func(t *testing.T) { locks(t, newExclusiveMount(t, n, n.Target())) })
}

func locks(t *testing.T, m *mount) {
	f, err := os.Create(filepath.Join(m.Dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	try := `import fcntl, sys
f = open("f", "r+")
try:
    getattr(fcntl, sys.argv[1])(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("held", end="")
else:
    print("free", end="")
`
	other := func(kind string) string {
		t.Helper()
		cmd := exec.Command("python3", "-c", try, kind)
		cmd.Dir = m.Dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	for kind, lock := range map[string]func(take bool) error{
		"flock": func(take bool) error {
			how := syscall.LOCK_UN
			if take {
				how = syscall.LOCK_EX
			}
			return syscall.Flock(int(f.Fd()), how)
		},
		"lockf": func(take bool) error {
			l := syscall.Flock_t{Type: syscall.F_UNLCK}
			if take {
				l.Type = syscall.F_WRLCK
			}
			return syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &l)
		},
	} {
		if err := lock(true); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got := other(kind); got != "held" {
			t.Errorf("%s: another process finds it %s", kind, got)
		}
		if err := lock(false); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got := other(kind); got != "free" {
			t.Errorf("%s: after unlocking another process finds it %s", kind, got)
		}
	}
}
