package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"bundlefs/internal/proc"
	"bundlefs/internal/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, opts ...Option) *Node {
	t.Helper()
	n, err := Start(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(n.dir); !os.IsNotExist(err) {
			t.Errorf("folder left: %v", err)
		}
		if left := proc.Marked(n.mark); len(left) > 0 {
			t.Errorf("processes left: %v", left)
		}
	})
	return n
}

func login(n *Node, user string, signer ssh.Signer) (*ssh.Client, error) {
	known, err := knownhosts.New(n.KnownHosts)
	if err != nil {
		return nil, err
	}
	return ssh.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port)), &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   known,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
}

func connect(t *testing.T, n *Node) *ssh.Client {
	t.Helper()
	text, err := os.ReadFile(n.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := login(n, n.User, signer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func session(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func sftpClient(t *testing.T, c *ssh.Client) *sftp.Client {
	t.Helper()
	s, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// background starts a command, and returns its session and its first line.
func background(t *testing.T, c *ssh.Client, line string) (*ssh.Session, string) {
	t.Helper()
	s := session(t, c)
	if _, err := s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(line); err != nil {
		t.Fatal(err)
	}
	var first []byte
	for b := make([]byte, 1); !bytes.HasSuffix(first, []byte("\n")); first = append(first, b[0]) {
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatalf("%s: %v after %q", line, err, first)
		}
	}
	return s, strings.TrimSpace(string(first))
}

// await polls a condition until it holds, and fails the test when it does not in time.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("%s: not in time", what)
		case <-tick.C:
		}
	}
}

func TestCommandRunsInHome(t *testing.T) {
	n := start(t)
	t.Setenv("SECRET_OF_THE_OPERATOR", "x")
	s := session(t, connect(t, n))
	out, err := s.Output(`echo "$HOME"; pwd -P; echo "${SECRET_OF_THE_OPERATOR-none}"; echo "$USER"`)
	if want := fmt.Sprintf("%s\n%s\nnone\n%s\n", n.Home, n.Home, n.User); err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestStreams(t *testing.T) {
	c := connect(t, start(t))
	s := session(t, c)
	var out, diag bytes.Buffer
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	s.Stdin, s.Stdout, s.Stderr = bytes.NewReader(data), &out, &diag
	if err := s.Run("cat; echo wrong >&2; exit 3"); exitStatus(err) != 3 {
		t.Errorf("ended with %v", err)
	}
	if !bytes.Equal(out.Bytes(), data) || diag.String() != "wrong\n" {
		t.Errorf("got %d bytes of %d, and %q", out.Len(), len(data), diag.String())
	}
}

func exitStatus(err error) int {
	var e *ssh.ExitError
	if errors.As(err, &e) {
		return e.ExitStatus()
	}
	return -1
}

func TestManySessionsAtOnce(t *testing.T) {
	c := connect(t, start(t))
	results := make(chan error, 20)
	for i := range cap(results) {
		go func() {
			s, err := c.NewSession()
			if err == nil {
				defer s.Close()
				if err = s.Run("exit " + strconv.Itoa(i+1)); exitStatus(err) == i+1 {
					err = nil
				}
			}
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestSignals(t *testing.T) {
	c := connect(t, start(t))
	for _, sig := range []ssh.Signal{ssh.SIGTERM, ssh.SIGKILL} {
		s, _ := background(t, c, "echo ready; sleep 1000; echo not reached")
		if err := s.Signal(sig); err != nil {
			t.Fatal(err)
		}
		var e *ssh.ExitError
		if err := s.Wait(); !errors.As(err, &e) || e.Signal() != string(sig) {
			t.Errorf("after %s: %v", sig, err)
		}
	}
}

func TestCommandEndsWithItsConnection(t *testing.T) {
	n := start(t)
	for name, line := range map[string]string{
		"sees the end of its input": "echo $$; cat >/dev/null; echo >seen",
		"must be killed":            "trap '' HUP TERM PIPE; echo $$; while :; do sleep 1000; done",
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, n)
			_, text := background(t, c, line)
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			p, ok := proc.Read(pid)
			if !ok {
				t.Fatal("the command does not run")
			}
			c.Close()
			await(t, "the end of the command", func() bool { return !p.Alive() })
		})
	}
	if _, err := os.Stat(filepath.Join(n.Home, "seen")); err != nil {
		t.Errorf("a command had no time to end by itself: %v", err)
	}
}

func TestBackgroundLivesUntilClose(t *testing.T) {
	n := start(t)
	c := connect(t, n)
	out, err := session(t, c).Output("setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	await(t, "the background process", func() bool { return len(proc.Marked(n.mark)) == 1 })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if left := proc.Marked(n.mark); len(left) > 0 {
		t.Errorf("%s left: %v", out, left)
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	n := start(t)
	c := connect(t, n)
	background(t, c, "echo ready; exec sleep 1000")
	if _, err := sftp.NewClient(c); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(n.Home, "locked", "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(n.Home, "locked"), 0o500); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Error("the connection ended without an error")
	}
	if err := n.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestCloseDuringHandshake(t *testing.T) {
	n := start(t)
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil { // it has been accepted
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyTheKeyLogsIn(t *testing.T) {
	n := start(t)
	other := start(t)
	text, err := os.ReadFile(other.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := login(n, n.User, signer); err == nil {
		t.Error("another key logged in")
	}
	for _, path := range []string{n.KeyFile, n.dir} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
}

func TestRefused(t *testing.T) {
	c := connect(t, start(t))
	if _, err := c.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("forwarded a port")
	}
	if err := session(t, c).RequestSubsystem("other"); err == nil {
		t.Error("an unknown subsystem started")
	}
	if err := session(t, c).RequestPty("vt100", 24, 80, nil); err == nil {
		t.Error("got a terminal")
	}
	s := session(t, c)
	if err := s.Setenv("NAME", "value"); err == nil {
		t.Error("took an environment variable")
	}
	if out, err := s.Output("echo ${NAME-none}"); err != nil || string(out) != "none\n" {
		t.Errorf("got %q, %v", out, err)
	}
	// Whatever the answer, there is one.
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Error(err)
	}
}

func TestTarget(t *testing.T) {
	n := start(t)
	if g := n.Target(); g.Host != "127.0.0.1" || g.Port != n.Port || g.Options["UserKnownHostsFile"] != n.KnownHosts {
		t.Errorf("target is %+v", g)
	}
}

func TestTargetLogsIn(t *testing.T) {
	n := start(t)
	c, err := remote.Dial(t.Context(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.SFTP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if wd, err := s.Getwd(); err != nil || wd != n.Home {
		t.Errorf("sftp starts in %q, %v, want %q", wd, err, n.Home)
	}
}
