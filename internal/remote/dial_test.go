package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestDial(t *testing.T) {
	n := testnode.Start(t)
	c := mustDial(t, n.Target(), nil)
	if c.User() != n.User || c.HostPort() != n.Addr {
		t.Errorf("connected as %s to %s", c.User(), c.HostPort())
	}
	if c.Err() != nil {
		t.Errorf("err: %v", c.Err())
	}
	c.Close()
	c.Close()
	waitDone(t, c)
	if !errors.Is(c.Err(), remote.ErrClosed) {
		t.Errorf("err after close: %v", c.Err())
	}
	if _, err := c.SFTP(patient(t)); !errors.Is(err, remote.ErrClosed) {
		t.Errorf("sftp after close: %v", err)
	}
}

func TestDialAsOrdinaryUser(t *testing.T) {
	if me, err := user.Current(); err != nil || me.Uid != "0" {
		t.Log("the tests run as an ordinary user: so do all others")
	}
	n := testnode.Start(t, testnode.AsUser())
	mustDial(t, n.Target(), nil)
}

func TestBadTargets(t *testing.T) {
	for _, target := range []remote.Target{
		{}, {Host: "-oProxyCommand=x"}, {Host: "a b"}, {Host: "h", User: "-l"}, {Host: "h", Port: 70000}, {Host: "h", Port: -1}, {Host: "me@h"},
	} {
		target.Config = "none"
		_, err := remote.Dial(patient(t), target, remote.Options{})
		var bad *remote.ConfigError
		if !errors.As(err, &bad) {
			t.Errorf("%+v: got %v", target, err)
		}
	}
}

func TestParallelSFTP(t *testing.T) {
	n := testnode.Start(t)
	c := mustDial(t, n.Target(), nil)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			s, err := c.SFTP(patient(t), sftp.UseConcurrentWrites(true))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			name := fmt.Sprintf("file%d", i)
			f, err := s.Create(name)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := io.Copy(f, strings.NewReader(strings.Repeat(name, 1<<16))); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			data, err := os.ReadFile(filepath.Join(n.Home, name))
			if err != nil || string(data) != strings.Repeat(name, 1<<16) {
				t.Errorf("%s: %d bytes, %v", name, len(data), err)
			}
		})
	}
	all.Wait()
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestUnknownSubsystem(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	_, err := c.OpenSubsystem(patient(t), "no-such")
	var refused *remote.SessionError
	if !errors.As(err, &refused) || refused.Hint() == "" {
		t.Errorf("got %v", err)
	}
	if s, err := c.SFTP(patient(t)); err != nil {
		t.Errorf("sftp after that: %v", err)
	} else {
		s.Close()
	}
}

func TestTooManySessions(t *testing.T) {
	c := mustDial(t, testnode.Start(t, testnode.WithConfig("MaxSessions 2")).Target(), nil)
	for range 2 {
		s, err := c.OpenSubsystem(patient(t), "sftp")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	_, err := c.OpenSubsystem(patient(t), "sftp")
	var refused *remote.SessionError
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint(), "MaxSessions") {
		t.Errorf("got %v", err)
	}
}

func TestKeepaliveNoticesSilence(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	c := mustDial(t, with(through(t, n, link), "ServerAliveInterval", "1", "ServerAliveCountMax", "1"), nil)
	link.Drop()
	waitDone(t, c)
	var lost *remote.LostError
	if !errors.As(c.Err(), &lost) || !strings.Contains(c.Err().Error(), "keepalive") || lost.Hint() == "" {
		t.Errorf("err: %v", c.Err())
	}
}

func TestResetIsNoticed(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	c := mustDial(t, through(t, n, link), nil)
	link.Reset()
	waitDone(t, c)
	var lost *remote.LostError
	if !errors.As(c.Err(), &lost) {
		t.Errorf("err: %v", c.Err())
	}
}

func TestUnreachable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	base := remote.Target{Host: "127.0.0.1", Port: port, Config: "none"}
	if e := failDial[*remote.UnreachableError](t, base, nil); e.Kind != remote.UnreachableRefused || e.Port != port {
		t.Errorf("refused: %+v", e)
	}
	name := base
	name.Host = "no-such-host.invalid"
	if e := failDial[*remote.UnreachableError](t, name, nil); e.Kind != remote.UnreachableName {
		t.Errorf("name: %+v", e)
	}

	hangsUp := serve(t, func(conn net.Conn) { conn.Close() })
	if e := failDial[*remote.UnreachableError](t, remote.Target{Host: "127.0.0.1", Port: hangsUp, Config: "none"}, nil); e.Kind != remote.UnreachableProtocol {
		t.Errorf("hangs up: %+v", e)
	}
	notSSH := serve(t, func(conn net.Conn) {
		fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		conn.Close()
	})
	if e := failDial[*remote.UnreachableError](t, remote.Target{Host: "127.0.0.1", Port: notSSH, Config: "none"}, nil); e.Kind != remote.UnreachableProtocol {
		t.Errorf("not ssh: %+v", e)
	}
	silent := serve(t, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	})
	quick := with(remote.Target{Host: "127.0.0.1", Port: silent, Config: "none"}, "ConnectTimeout", "1")
	if e := failDial[*remote.UnreachableError](t, quick, nil); e.Kind != remote.UnreachableTimeout {
		t.Errorf("silent: %+v", e)
	}

	ctx, cancel := context.WithCancel(patient(t))
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := remote.Dial(ctx, remote.Target{Host: "127.0.0.1", Port: silent, Config: "none"}, remote.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// serve gives every connection to handle, until the test ends.
func serve(t *testing.T, handle func(net.Conn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { handle(conn) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// jumpConfig is an ssh_config in which "inner" is behind "outer".
func jumpConfig(t *testing.T, inner, outer *testnode.Node) string {
	t.Helper()
	var b strings.Builder
	for name, n := range map[string]*testnode.Node{"inner": inner, "outer": outer} {
		fmt.Fprintf(&b, "Host %s\n  HostName 127.0.0.1\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n",
			name, n.Port, n.User, n.KeyFile, n.KnownHosts)
	}
	b.WriteString("Host inner\n  ProxyJump outer\n")
	return writeFile(t, "config", b.String(), 0o600)
}

func TestProxyJump(t *testing.T) {
	inner := testnode.Start(t)
	outer := testnode.Start(t, testnode.WithConfig("AllowTcpForwarding yes"))
	config := jumpConfig(t, inner, outer)
	c := mustDial(t, remote.Target{Host: "inner", Config: config}, nil)
	if c.HostPort() != inner.Addr {
		t.Errorf("connected to %s", c.HostPort())
	}
	s, err := c.SFTP(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()

	// The jump host goes away: the connection behind it is lost too.
	outer.Kill()
	waitDone(t, c)
	var lost *remote.LostError
	if !errors.As(c.Err(), &lost) {
		t.Errorf("err: %v", c.Err())
	}
	if e := failDial[*remote.UnreachableError](t, remote.Target{Host: "inner", Config: config}, nil); e.Port != outer.Port {
		t.Errorf("without the jump host: %v", e)
	}
	mustDial(t, remote.Target{Host: "inner", Config: config, Jump: "none"}, nil)
}

func TestProxyJumpTwice(t *testing.T) {
	inner := testnode.Start(t)
	outer := testnode.Start(t, testnode.WithConfig("AllowTcpForwarding yes"))
	config := jumpConfig(t, inner, outer)
	for _, jump := range []string{"outer,outer", "ssh://" + outer.User + "@outer:" + fmt.Sprint(outer.Port)} {
		mustDial(t, remote.Target{Host: "inner", Config: config, Jump: jump}, nil)
	}
	for _, jump := range []string{"outer,", "outer:x", "-x", "outer,outer,outer,outer,outer,outer,outer,outer,outer"} {
		failDial[*remote.ConfigError](t, remote.Target{Host: "inner", Config: config, Jump: jump}, nil)
	}
}

func TestProxyJumpInCircles(t *testing.T) {
	config := writeFile(t, "config", "Host a\n ProxyJump b\nHost b\n ProxyJump a\n", 0o600)
	failDial[*remote.ConfigError](t, remote.Target{Host: "a", Config: config}, nil)
}

func TestProxyJumpFailures(t *testing.T) {
	inner := testnode.Start(t)
	outer := testnode.Start(t, testnode.WithConfig("AllowTcpForwarding no"))
	if e := failDial[*remote.UnreachableError](t, remote.Target{Host: "inner", Config: jumpConfig(t, inner, outer)}, nil); e.Kind != remote.UnreachableJump || e.Via == "" {
		t.Errorf("no forwarding: %+v", e)
	}
	allowed := testnode.Start(t, testnode.WithConfig("AllowTcpForwarding yes"))
	inner.NewHostKey()
	inner.Restart()
	if e := failDial[*remote.HostKeyError](t, remote.Target{Host: "inner", Config: jumpConfig(t, inner, allowed)}, nil); e.Kind != remote.HostKeyChanged {
		t.Errorf("inner key: %v", e)
	}
	inner.Stop()
	if e := failDial[*remote.UnreachableError](t, remote.Target{Host: "inner", Config: jumpConfig(t, inner, allowed)}, nil); e.Kind != remote.UnreachableRefused || e.Via == "" {
		t.Errorf("inner down: %+v", e)
	}
}
