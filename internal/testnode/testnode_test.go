package testnode

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect logs in with the node's key through any address of it.
func connect(t *testing.T, n *Node, addr string) (*ssh.Client, error) {
	t.Helper()
	text, err := os.ReadFile(n.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(n.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User:              n.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   known,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
}

func mustConnect(t *testing.T, n *Node) *ssh.Client {
	t.Helper()
	c, err := connect(t, n, n.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// run runs a command on the node and returns what it printed.
func run(t *testing.T, c *ssh.Client, command string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// background starts a command that goes on until its session ends, and waits for its first line.
func background(t *testing.T, c *ssh.Client, command string) (*ssh.Session, string) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(command); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b[0]) {
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatalf("%s: %v after %q", command, err, line)
		}
	}
	return s, strings.TrimSpace(string(line))
}

func TestCommandsRunInHome(t *testing.T) {
	n := Start(t)
	c := mustConnect(t, n)
	if got := run(t, c, `echo "$HOME"; pwd -P; cd; pwd -P`); got != strings.Repeat(n.Home+"\n", 2)+n.Home {
		t.Errorf("HOME, working folder and ~ are\n%s\nwant %s", got, n.Home)
	}
	if got, me := run(t, c, "id -un"), n.User; got != me {
		t.Errorf("user is %s, want %s", got, me)
	}
	if got := run(t, c, "command -v python3"); got == "" {
		t.Error("no python3")
	}
}

func TestSFTPStartsInHome(t *testing.T) {
	for name, opts := range map[string][]Option{"default": nil, "user": {AsUser()}} {
		t.Run(name, func(t *testing.T) {
			n := Start(t, opts...)
			s, err := sftp.NewClient(mustConnect(t, n))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if wd, err := s.Getwd(); err != nil || wd != n.Home {
				t.Errorf("sftp starts in %q (%v), want %q", wd, err, n.Home)
			}
			if err := s.Mkdir("relative"); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(filepath.Join(n.Home, "relative")); err != nil || !info.IsDir() {
				t.Errorf("made folder: %v, %v", info, err)
			}
			if _, ok := s.HasExtension("posix-rename@openssh.com"); !ok {
				t.Error("not OpenSSH's sftp-server")
			}
		})
	}
}

func TestAsUserIsNotRoot(t *testing.T) {
	n := Start(t, AsUser())
	c := mustConnect(t, n)
	if got := run(t, c, "id -u"); got == "0" {
		t.Error("logged in as root")
	}
	if got := run(t, c, "touch made && id -un && echo $HOME"); got != n.User+"\n"+n.Home {
		t.Errorf("got %q", got)
	}
}

func TestWithoutPython(t *testing.T) {
	c := mustConnect(t, Start(t, WithoutPython()))
	if got := run(t, c, "command -v python3 python || echo none; ls -d /; tar --version >/dev/null && mkdir x"); got != "none\n/" {
		t.Errorf("got %q", got)
	}
}

func TestOptions(t *testing.T) {
	home := t.TempDir()
	n := Start(t, WithHome(home), WithConfig("Banner none", "MaxAuthTries 3"), WithSFTPServer("-R"))
	if n.Home != home {
		t.Errorf("home is %s, want %s", n.Home, home)
	}
	s, err := sftp.NewClient(mustConnect(t, n))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Mkdir("refused"); err == nil {
		t.Error("a read-only sftp-server made a folder")
	}
}

func TestOpenSSHClient(t *testing.T) {
	n := Start(t)
	out, err := exec.Command("ssh", "-F", n.SSHConfig, "node", "echo $HOME").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != n.Home {
		t.Errorf("ssh: %q, %v", out, err)
	}
}

func TestTargetNamesTheNode(t *testing.T) {
	n := Start(t)
	g := n.Target()
	if g.Host != "127.0.0.1" || g.Port != n.Port || g.User != n.User || g.IdentityFile != n.KeyFile || g.Config != "none" {
		t.Errorf("target is %+v", g)
	}
}

func TestStopEndsSessions(t *testing.T) {
	for name, end := range map[string]func(*Node){"stop": (*Node).Stop, "kill": (*Node).Kill} {
		t.Run(name, func(t *testing.T) {
			n := Start(t)
			c := mustConnect(t, n)
			background(t, c, "echo $$; exec sleep 1000")
			if len(n.Processes()) == 0 {
				t.Error("the command is not listed")
			}
			end(n)
			if err := c.Wait(); err == nil {
				t.Error("the connection ended without an error")
			}
			if left := n.Processes(); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if _, err := net.Dial("tcp", n.Addr); err == nil {
				t.Error("a stopped node accepts connections")
			}
			n.Restart()
			run(t, mustConnect(t, n), "true")
		})
	}
}

func TestKillServerLeavesCommandsToNotice(t *testing.T) {
	n := Start(t)
	c := mustConnect(t, n)
	background(t, c, "echo ready; cat; touch noticed")
	n.KillServer()
	if err := c.Wait(); err == nil {
		t.Error("the connection ended without an error")
	}
	if !await(func() bool { _, err := os.Stat(filepath.Join(n.Home, "noticed")); return err == nil }) {
		t.Error("the command did not see the end of its input")
	}
}

func TestRestartKeepsPortAndKey(t *testing.T) {
	n := Start(t)
	port := n.Port
	n.Restart()
	run(t, mustConnect(t, n), "true")
	if n.Port != port {
		t.Errorf("port was %d, is %d", port, n.Port)
	}
}

func TestNewHostKey(t *testing.T) {
	n := Start(t)
	old := n.HostKey()
	n.NewHostKey()
	run(t, mustConnect(t, n), "true") // shows the old one until it is restarted
	n.Restart()
	_, err := connect(t, n, n.Addr)
	if err == nil || !strings.Contains(err.Error(), "key mismatch") {
		t.Errorf("after a new host key: %v", err)
	}
	if bytes.Equal(old.Marshal(), n.HostKey().Marshal()) {
		t.Error("the host key did not change")
	}
}

// failures records what a helper reports, in place of failing the test.
type failures struct {
	testing.TB
	messages []string
	cleanups []func()
}

func (f *failures) Helper()             {}
func (f *failures) Failed() bool        { return false }
func (f *failures) Cleanup(fn func())   { f.cleanups = append(f.cleanups, fn) }
func (f *failures) Logf(string, ...any) {}
func (f *failures) Errorf(format string, args ...any) {
	f.messages = append(f.messages, format)
}

func TestProcessLeftFailsTheTest(t *testing.T) {
	rec := &failures{TB: t}
	n := Start(rec)
	n.patience = time.Millisecond
	c, err := connect(t, n, n.Addr)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
	c.Close()
	rec.cleanups[0]()
	if len(rec.messages) != 1 || !strings.Contains(rec.messages[0], "left on the node") {
		t.Errorf("reported %q", rec.messages)
	}
	if left := n.Processes(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := os.Stat(n.dir); !os.IsNotExist(err) {
		t.Errorf("folder left: %v", err)
	}
}

func TestUserOfTheTests(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if n := Start(t); n.User != me.Username {
		t.Errorf("user is %s, want %s", n.User, me.Username)
	}
}
