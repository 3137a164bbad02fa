package mountprog

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/internal/control"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// borrow asks the mount program for its connection.
func (b *bench) borrow() (*remote.Client, error) {
	b.t.Helper()
	b.t.Setenv("XDG_RUNTIME_DIR", filepath.Join(b.dir, "run"))
	ctl, err := control.Dial(b.t.Context(), b.mountpoint)
	if err != nil {
		return nil, err
	}
	var answer control.ConnectionAnswer
	conn, err := ctl.Take(b.t.Context(), control.Connection, nil, &answer)
	if err != nil {
		ctl.Close()
		return nil, err
	}
	c, err := remote.Over(b.t.Context(), conn, answer.Key, b.target, remote.Options{})
	if err == nil {
		b.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// echo is a command that waits on the node for a word.
type echo struct {
	in      io.WriteCloser
	out     bytes.Buffer
	running *remote.Process
}

func newEcho(t *testing.T, c *remote.Client) *echo {
	t.Helper()
	line, in := io.Pipe()
	t.Cleanup(func() { in.Close() })
	e := &echo{in: in}
	var err error
	if e.running, err = c.Start(t.Context(), "read word; echo $word", line, &e.out, nil); err != nil {
		t.Fatal(err)
	}
	return e
}

// says gives it the word, with which it ends.
func (e *echo) says(t *testing.T, word string) {
	t.Helper()
	io.WriteString(e.in, word+"\n")
	if status, err := e.running.Wait(); err != nil || status.Code != 0 || e.out.String() != word+"\n" {
		t.Errorf("%v, %v, %q", status, err, &e.out)
	}
}

// says runs a command on the node.
func says(t *testing.T, c *remote.Client, cmd string) string {
	t.Helper()
	var out bytes.Buffer
	p, err := c.Start(t.Context(), cmd, nil, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); err != nil || status.Code != 0 {
		t.Fatal(status, err)
	}
	return out.String()
}

// TestLend uses the connection of a mount: while there is one, over its end, and over that of a
// connection that was lost. The mount program stays for as long as it is used, and nothing else does.
func TestLend(t *testing.T) {
	b, l, _ := newExclusiveBench(t, os.Getuid())
	b.must("bundlefs", b.exclusive(l, "ours")...)
	pid := b.status().PID
	first, err := b.borrow()
	if err != nil {
		t.Fatal(err)
	}
	if got := says(t, first, "echo one"); got != "one\n" {
		t.Errorf("got %q", got)
	}
	b.cut(l)
	await(t, "the loss is noticed", func() bool { return first.Err() != nil })
	if _, err := b.borrow(); err == nil {
		t.Error("a connection that is lost was lent")
	}
	l.Heal()
	b.must("bundlefs", "sync", b.mountpoint)
	before := l.Counters().Connections
	second, err := b.borrow()
	if err != nil {
		t.Fatal(err)
	}
	echo := newEcho(t, second)
	b.must("sh", "-c", `echo 12345 >"$1/f"`, "sh", b.mountpoint)
	b.must("bundlefs", "unmount", b.mountpoint)
	await(t, "the lock of the control socket is gone, too", func() bool {
		left, err := filepath.Glob(filepath.Join(b.dir, "run/bundlefs/*"))
		return err == nil && len(left) == 0
	})
	b.clean()
	if left := b.spools(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := control.Dial(t.Context(), b.mountpoint); !errors.Is(err, control.ErrNotMounted) {
		t.Errorf("the control socket: %v", err)
	}
	b.must("bundlefs", b.exclusive(l, "ours")...) // is not in the way of another mount
	if other := b.status().PID; other == pid {
		t.Error("the same process mounts again")
	}
	b.must("bundlefs", "unmount", b.mountpoint)
	echo.says(t, "two")
	if got := says(t, second, "echo three"); got != "three\n" {
		t.Errorf("got %q", got)
	}
	if dead(pid) {
		t.Error("the mount program has ended under who uses it")
	}
	if made := l.Counters().Connections - before; made != 1 { // that of the other mount
		t.Errorf("%d connections were made", made)
	}
	second.Close()
	b.gone(pid)
}

// A second signal ends a mount program that somebody uses.
func TestLendSecondSignal(t *testing.T) {
	b, l, _ := newExclusiveBench(t, os.Getuid())
	b.must("bundlefs", b.exclusive(l, "ours")...)
	pid := b.status().PID
	c, err := b.borrow()
	if err != nil {
		t.Fatal(err)
	}
	never, in := io.Pipe()
	defer in.Close()
	running, err := c.Start(t.Context(), "cat", never, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	await(t, "it is unmounted", func() bool {
		_, err := control.Dial(t.Context(), b.mountpoint)
		return b.find() == nil && errors.Is(err, control.ErrNotMounted)
	})
	if dead(pid) {
		t.Fatal("it has ended at the first one")
	}
	syscall.Kill(pid, syscall.SIGTERM)
	b.gone(pid)
	if _, err := running.Wait(); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("the command: %v", err)
	}
}

// What another program has connected is not lent.
func TestNotLent(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.must("bundlefs", b.args("", "-o", "ssh_command=ssh")...)
	defer b.must("bundlefs", "unmount", b.mountpoint)
	if _, err := b.borrow(); err == nil || !strings.Contains(err.Error(), remote.ErrNotLent.Error()) {
		t.Errorf("got %v", err)
	}
}

// When the mount has ended, who runs nothing on the node has to go in the end, and after a signal
// everybody.
func TestLendingEnds(t *testing.T) {
	n := testnode.Start(t)
	for _, signalled := range []bool{false, true} {
		conn, err := remote.Dial(t.Context(), n.Target(), remote.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var l lender
		s, err := l.share(conn, false)
		if err != nil {
			t.Fatal(err)
		}
		s.Opened()
		loan, err := s.Lend(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			far, err := ln.Accept()
			ln.Close()
			if err != nil {
				t.Error(err)
			}
			loan.Serve(far)
		}()
		near, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := remote.Over(t.Context(), near, loan.Key(), n.Target(), remote.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if signalled {
			never, in := io.Pipe()
			defer in.Close()
			if _, err := c.Start(t.Context(), "cat", never, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		if !s.Leave() {
			t.Error("nobody uses it")
		}
		l.await(nil, signalled, 100*time.Millisecond)
		<-served
		<-c.Done()
		c.Close()
	}
}

// The mount gives up a connection of which a server hangs, and makes another one; who was lent the
// first goes on with it.
func TestLendHungServer(t *testing.T) {
	b, l, _ := newExclusiveBench(t, os.Getuid())
	b.must("bundlefs", append(b.exclusive(l, "ours"), "-o", "timeout=0"+quickly)...)
	pid := b.status().PID
	c, err := b.borrow()
	if err != nil {
		t.Fatal(err)
	}
	echo := newEcho(t, c)
	b.node.HangServers(0)
	b.must("sh", "-c", `echo 12345 >"$1/f"`, "sh", b.mountpoint)
	b.must("bundlefs", "sync", b.mountpoint)
	if made := l.Counters().Connections; made < 2 {
		t.Errorf("%d connections were made", made)
	}
	echo.says(t, "word")
	other, err := b.borrow()
	if err != nil {
		t.Fatal(err)
	}
	if got := says(t, other, "echo other"); got != "other\n" {
		t.Errorf("got %q", got)
	}
	other.Close()
	c.Close()
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
}
