package remote_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// sockets are the two ends of a connection on this machine.
func sockets(t *testing.T) (near, far net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Cleanup(func() { ends[0].Close(); ends[1].Close() })
	return ends[0], ends[1]
}

func mustShare(t *testing.T, target remote.Target) *remote.Shared {
	t.Helper()
	s, err := remote.Share(mustDial(t, target, nil), true)
	if err != nil {
		t.Fatal(err)
	}
	s.Opened()
	return s
}

// lend lends to what could be another process, and tells when the loan is over.
func lend(t *testing.T, s *remote.Shared, target remote.Target) (c *remote.Client, over <-chan struct{}) {
	t.Helper()
	near, loan, served := lendRaw(t, s)
	c, err := remote.Over(patient(t), near, loan.Key(), target, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, served
}

func lendRaw(t *testing.T, s *remote.Shared) (net.Conn, *remote.Loan, <-chan struct{}) {
	t.Helper()
	loan, err := s.Lend(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	near, far := sockets(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		loan.Serve(far)
	}()
	return near, loan, served
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-patient(t).Done():
		t.Fatalf("in vain: %s", what)
	}
}

// What a process does over the connection of another is as over one of its own.
func TestLent(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	owner := mustShare(t, n.TargetVia(link))
	c, over := lend(t, owner, n.TargetVia(link))

	run := func(c *remote.Client, cmd, stdin string) (remote.ExitStatus, string, string) {
		t.Helper()
		var out, errOut bytes.Buffer
		p, err := c.Start(patient(t), cmd, strings.NewReader(stdin), &out, &errOut)
		if err != nil {
			t.Fatal(err)
		}
		status, err := p.Wait()
		if err != nil {
			t.Fatal(err)
		}
		return *status, out.String(), errOut.String()
	}
	if status, out, errOut := run(c, "cat; echo err >&2; exit 7", "in\n"); status.Code != 7 || out != "in\n" || errOut != "err\n" {
		t.Errorf("got %v %q %q", status, out, errOut)
	}
	if status, _, _ := run(c, "kill -KILL $$", ""); status.Signal != "KILL" && status.Code != 128+9 {
		t.Errorf("killed: %v", status)
	}
	big := make([]byte, 5<<20) // more than the windows of all channels on the way
	rand.Read(big)
	if status, out, _ := run(c, "cat", string(big)); status.Code != 0 || out != string(big) {
		t.Errorf("%v, and of %d bytes came %d back", status, len(big), len(out))
	}
	if c.User() != n.User {
		t.Errorf("the user is %q", c.User())
	}

	files, err := c.SFTP(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	if wd, err := files.Getwd(); err != nil || wd != n.Home {
		t.Errorf("%q, %v", wd, err)
	}
	files.Close()

	if os.Getuid() == 0 { // an sshd of an ordinary user has no terminals to give
		var out bytes.Buffer
		p, err := c.StartOn(patient(t), remote.Terminal{Type: "xterm", Window: remote.Window{Rows: 33, Columns: 44}}, "stty size", nil, &out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil || !strings.Contains(out.String(), "33 44") {
			t.Errorf("%q, %v", &out, err)
		}
	}

	ctx, cancel := context.WithCancelCause(patient(t))
	started := newSignalWriter("on")
	never, in := io.Pipe()
	defer in.Close()
	p, err := c.Start(ctx, "echo on; cat", never, started, nil)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the command runs", started.seen)
	enough := errors.New("enough")
	cancel(enough)
	if _, err := p.Wait(); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}

	other, _ := lend(t, owner, n.TargetVia(link))
	if status, _, _ := run(other, "exit 3", ""); status.Code != 3 {
		t.Errorf("another process: %v", status)
	}
	other.Close()
	c.Close()
	within(t, "the loan is over", over)
	if status, _, _ := run(owner.Client, "exit 4", ""); status.Code != 4 {
		t.Errorf("the owner: %v", status)
	}
	if made := link.Counters().Connections; made != 1 {
		t.Errorf("%d connections were made", made)
	}
}

// signalWriter closes seen when something was written.
type signalWriter struct {
	word string
	text bytes.Buffer
	seen chan struct{}
}

func newSignalWriter(word string) *signalWriter {
	return &signalWriter{word: word, seen: make(chan struct{})}
}

func (w *signalWriter) Write(p []byte) (int, error) {
	before := strings.Contains(w.text.String(), w.word)
	w.text.Write(p)
	if !before && strings.Contains(w.text.String(), w.word) {
		close(w.seen)
	}
	return len(p), nil
}

// A process that goes away ends what it ran, as with a connection of its own.
func TestLentProcessDies(t *testing.T) {
	n := testnode.Start(t)
	owner := mustShare(t, n.Target())
	near, loan, over := lendRaw(t, owner)
	c, err := remote.Over(patient(t), near, loan.Key(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	started := newSignalWriter("on")
	never, in := io.Pipe()
	defer in.Close()
	p, err := c.Start(patient(t), "echo on; cat; rm -f there", never, started, nil)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the command runs", started.seen)
	near.Close()
	if _, err := p.Wait(); err == nil {
		t.Error("the command has no error")
	}
	within(t, "the loan is over", over)
	wait(t, "the command ends", func() bool {
		for _, p := range n.Processes() {
			if strings.Contains(p, "rm -f there") {
				return false
			}
		}
		return true
	})
	if owner.Err() != nil {
		t.Errorf("the owner: %v", owner.Err())
	}
}

func wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx := patient(t)
	for tick := time.NewTicker(10 * time.Millisecond); !condition(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in vain: %s", what)
		}
	}
}

// Nothing but sessions is opened on the node, and nothing is forwarded.
func TestLentSessionsOnly(t *testing.T) {
	n := testnode.Start(t)
	near, loan, _ := lendRaw(t, mustShare(t, n.Target()))
	key, err := ssh.ParsePublicKey(loan.Key())
	if err != nil {
		t.Fatal(err)
	}
	sc, channels, requests, err := ssh.NewClientConn(near, "node", &ssh.ClientConfig{HostKeyCallback: ssh.FixedHostKey(key)})
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(sc, channels, requests)
	defer c.Close()
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "tun@openssh.com", "x11", "nonsense"} {
		var refused *ssh.OpenChannelError
		if _, _, err := c.OpenChannel(kind, nil); !errors.As(err, &refused) || refused.Reason != ssh.UnknownChannelType {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if ok, _, err := c.SendRequest("tcpip-forward", true, nil); ok || err != nil {
		t.Errorf("tcpip-forward: %v, %v", ok, err)
	}
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if ok, err := session.SendRequest("auth-agent-req@openssh.com", true, nil); ok || err != nil {
		t.Errorf("agent forwarding: %v, %v", ok, err)
	}
	if out, err := session.Output("echo still here"); err != nil || string(out) != "still here\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := remote.Over(patient(t), mustConn(sockets(t)), n.HostKey().Marshal(), n.Target(), remote.Options{}); err == nil {
		t.Error("a connection that hangs up was taken")
	}
}

func mustConn(near, far net.Conn) net.Conn { far.Close(); return near }

// The owner has another key than the process was told: it is not the one.
func TestLentOtherKey(t *testing.T) {
	n := testnode.Start(t)
	near, _, over := lendRaw(t, mustShare(t, n.Target()))
	if _, err := remote.Over(patient(t), near, n.HostKey().Marshal(), n.Target(), remote.Options{}); err == nil {
		t.Error("it was taken")
	}
	within(t, "the loan is over", over)
}

// The process hears why the connection to the node has ended.
func TestLentLinkLost(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	owner := mustShare(t, n.TargetVia(link))
	c, over := lend(t, owner, n.TargetVia(link))
	started := newSignalWriter("on")
	never, in := io.Pipe()
	defer in.Close()
	p, err := c.Start(patient(t), "echo on; cat", never, started, nil)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the command runs", started.seen)
	link.Reset()
	_, err = p.Wait()
	var lost, owners *remote.LostError
	if !errors.As(err, &lost) || !errors.As(owner.Err(), &owners) || lost.Error() != owners.Error() {
		t.Errorf("got %v, and the owner %v", err, owner.Err())
	}
	within(t, "the loan is over", over)
	if _, err := owner.Lend(patient(t)); !errors.Is(err, remote.ErrNotLent) {
		t.Errorf("lent again: %v", err)
	}
}

// A node that says nothing counts as lost for a process as soon as it would be unreachable.
func TestLentSilentNode(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	target := n.TargetVia(link)
	target.Options = maps.Clone(target.Options)
	target.Options["ConnectTimeout"] = "1"
	owner := mustShare(t, target)
	near, loan, over := lendRaw(t, owner)
	link.Drop()
	c, err := remote.Over(patient(t), near, loan.Key(), target, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Start(patient(t), "true", nil, nil, nil); err == nil || !strings.Contains(err.Error(), "no answer in 1s") {
		t.Errorf("got %v", err)
	}
	within(t, "the loan is over", over)
	if owner.Err() != nil {
		t.Errorf("the owner: %v", owner.Err())
	}
}

// The owner can leave while a process uses the connection, which ends with the last process.
func TestLeave(t *testing.T) {
	n := testnode.Start(t)
	owner := mustShare(t, n.Target())
	c, _ := lend(t, owner, n.Target())
	out := newSignalWriter("on")
	line, in := io.Pipe()
	defer in.Close()
	p, err := c.Start(patient(t), "echo on; read word; echo $word", line, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the command runs", out.seen)
	if quiet := owner.Quiet(); quiet != 0 {
		t.Errorf("quiet for %v", quiet)
	}
	if !owner.Leave() || owner.Err() != nil {
		t.Fatalf("it does not stand: %v", owner.Err())
	}
	if _, err := owner.Lend(patient(t)); !errors.Is(err, remote.ErrNotLent) {
		t.Errorf("lent again: %v", err)
	}
	io.WriteString(in, "after\n")
	if status, err := p.Wait(); err != nil || status.Code != 0 || !strings.Contains(out.text.String(), "after") {
		t.Errorf("%v, %v, %q", status, err, &out.text)
	}
	c.Close()
	within(t, "the connection ends", owner.Done())

	unused := mustShare(t, n.Target())
	if unused.Leave() {
		t.Error("it stands for nobody")
	}
	within(t, "the connection ends", unused.Done())
}

// A node that allows few sessions is not shared with who might need more than there are; what is
// given back is lent again.
func TestLendTooFewSessions(t *testing.T) {
	n := testnode.Start(t, testnode.WithConfig("MaxSessions 3"))
	owner := mustShare(t, n.Target())
	for range 2 {
		c, over := lend(t, owner, n.Target())
		if _, err := owner.Lend(patient(t)); !errors.Is(err, remote.ErrNotLent) {
			t.Errorf("lent to a second one: %v", err)
		}
		p, err := c.Start(patient(t), "true", nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		within(t, "the loan is over", over)
	}
}

// A process that reads nothing holds up nobody but itself.
func TestLentProcessHangs(t *testing.T) {
	n := testnode.Start(t, testnode.WithConfig("ClientAliveInterval 1", "ClientAliveCountMax 2"))
	owner := mustShare(t, n.Target())
	near, loan, _ := lendRaw(t, owner)
	ear := &deafConn{Conn: near, over: make(chan struct{})}
	c, err := remote.Over(patient(t), ear, loan.Key(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer close(ear.over)
	if _, err = c.Start(patient(t), "head -c 20000000 /dev/zero", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	ear.deaf.Store(true)
	for range 20 { // for longer than sshd bears with a connection that is held up
		p, err := owner.Start(patient(t), "sleep 0.2; true", nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := p.Wait(); err != nil || status.Code != 0 {
			t.Fatal(status, err)
		}
	}
}

// deafConn is the connection of a process that reads nothing any more.
type deafConn struct {
	net.Conn
	deaf atomic.Bool
	over chan struct{}
}

func (c *deafConn) Read(p []byte) (int, error) {
	if c.deaf.Load() {
		<-c.over
	}
	return c.Conn.Read(p)
}
