package remote_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"bundlefs/internal/remote"
)

// goNode is an SSH server in the test, for what a real sshd needs system
// accounts or PAM for: passwords, questions, several methods in a row. Its exec
// answers signals.
type goNode struct {
	port   int
	known  string
	offers atomic.Int32 // public keys that were asked about or used
}

func (n *goNode) target() remote.Target {
	return remote.Target{Host: "127.0.0.1", Port: n.port, User: "deploy", Config: "none",
		Options: map[string]string{"UserKnownHostsFile": n.known}}
}

// accept logs in whoever has one of the keys, before maybe asking for more.
func (n *goNode) accept(then *ssh.PartialSuccessError, keys ...ssh.PublicKey) func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
	return func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		n.offers.Add(1)
		for _, k := range keys {
			if string(k.Marshal()) == string(offered.Marshal()) {
				if then != nil {
					return nil, then
				}
				return nil, nil
			}
		}
		return nil, errors.New("not this key")
	}
}

func startGoNode(t *testing.T, configure func(*goNode, *ssh.ServerConfig)) *goNode {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	n := &goNode{}
	config := &ssh.ServerConfig{MaxAuthTries: 12}
	config.AddHostKey(signer)
	configure(n, config)
	n.port = serve(t, func(conn net.Conn) {
		defer conn.Close()
		sc, chans, reqs, err := ssh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		defer sc.Close()
		go ssh.DiscardRequests(reqs)
		var sessions sync.WaitGroup
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				continue
			}
			sessions.Go(func() { signalled(ch, reqs) })
		}
		sessions.Wait()
	})
	line := knownhosts.Line([]string{fmt.Sprintf("[127.0.0.1]:%d", n.port)}, signer.PublicKey())
	n.known = writeFile(t, "known_hosts", line+"\n", 0o600)
	return n
}

// signalled is a command that ends with the signal it gets, and "hang-up" ends
// without any status.
func signalled(ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	for r := range reqs {
		switch r.Type {
		case "exec":
			_ = r.Reply(true, nil)
			fmt.Fprint(ch, "started\n")
			if strings.Contains(string(r.Payload), "hang-up") {
				return
			}
		case "signal":
			var msg struct{ Name string }
			_ = ssh.Unmarshal(r.Payload, &msg)
			_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal     string
				CoreDumped bool
				Error      string
				Lang       string
			}{Signal: msg.Name}))
			return
		}
	}
}

func TestSignal(t *testing.T) {
	file, pub := newKeyFile(t, "", "")
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) { s.PublicKeyCallback = n.accept(nil, pub) })
	target := n.target()
	target.IdentityFile = file
	c := mustDial(t, target, nil)
	for _, name := range []string{"TERM", "SIGINT", "usr1"} {
		p, err := c.Start(patient(t), "wait", nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Signal(name); err != nil {
			t.Fatal(err)
		}
		status, err := p.Wait()
		if want := strings.TrimPrefix(strings.ToUpper(name), "SIG"); err != nil || status.Signal != want {
			t.Errorf("%s: got %v, %v", name, status, err)
		}
	}
	p, err := c.Start(patient(t), "hang-up", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); err == nil {
		t.Errorf("without a status: got %v", status)
	}
}

func TestEncryptedKey(t *testing.T) {
	for _, format := range []string{"", "PEM"} {
		file, pub := newKeyFile(t, "sesame", format)
		n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) { s.PublicKeyCallback = n.accept(nil, pub) })
		target := n.target()
		target.IdentityFile = file
		p := &fakePrompter{answers: []string{"wrong", "sesame"}}
		mustDial(t, target, p)
		if q := p.questions(); len(q) != 2 || !strings.Contains(q[0], file) {
			t.Errorf("format %q: asked %q", format, q)
		}
		p = &fakePrompter{answers: []string{"a", "b", "c", "sesame"}}
		e := failDial[*remote.AuthError](t, target, p)
		if q := p.questions(); len(q) != 3 || !strings.Contains(e.Error(), "wrong passphrase") {
			t.Errorf("format %q: asked %q, %v", format, q, e)
		}
		e = failDial[*remote.AuthError](t, target, nil)
		if !strings.Contains(e.Error(), file) || !strings.Contains(e.Error(), "encrypted") || !strings.Contains(e.Hint(), "ssh-add") {
			t.Errorf("format %q: %v, hint %s", format, e, e.Hint())
		}
		// Without any public half to be found, the passphrase is asked for first.
		if err := os.Remove(file + ".pub"); err != nil {
			t.Fatal(err)
		}
		mustDial(t, target, &fakePrompter{answers: []string{"sesame"}})
	}
}

// A passphrase is not asked for when the node would not take the key anyway.
func TestNoPassphraseForRefusedKey(t *testing.T) {
	file, _ := newKeyFile(t, "sesame", "")
	good, pub := newKeyFile(t, "", "")
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) { s.PublicKeyCallback = n.accept(nil, pub) })
	target := with(n.target(), "IdentityFile", good)
	target.IdentityFile = file
	p := &fakePrompter{}
	mustDial(t, target, p)
	if q := p.questions(); len(q) != 0 {
		t.Errorf("asked %q", q)
	}
}

func TestKeyFileThatOthersRead(t *testing.T) {
	file, pub := newKeyFile(t, "", "")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) { s.PublicKeyCallback = n.accept(nil, pub) })
	target := n.target()
	target.IdentityFile = file
	e := failDial[*remote.AuthError](t, target, nil)
	if !strings.Contains(e.Error(), "0644") || n.offers.Load() != 0 {
		t.Errorf("%d offers, %v", n.offers.Load(), e)
	}
	for name, path := range map[string]string{"missing": file + "x", "a folder": t.TempDir(), "no key": writeFile(t, "k", "hello", 0o600)} {
		target.IdentityFile = path
		if e := failDial[*remote.AuthError](t, target, nil); !strings.Contains(e.Error(), path) {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestDefaultKeys(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	file, pub := newKeyFile(t, "", "")
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, filepath.Join(home, ".ssh", "id_ecdsa")); err != nil {
		t.Fatal(err)
	}
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) { s.PublicKeyCallback = n.accept(nil, pub) })
	mustDial(t, n.target(), nil)
	mustDial(t, with(n.target(), "IdentitiesOnly", "yes"), nil)
	failDial[*remote.AuthError](t, with(n.target(), "IdentityFile", "none"), nil)
	e := failDial[*remote.AuthError](t, with(n.target(), "PubkeyAuthentication", "no"), nil)
	if len(e.Methods) != 1 || e.Methods[0] != "publickey" || e.User != "deploy" {
		t.Errorf("%+v", e)
	}
}

// startAgent serves an ssh-agent with keys on a socket.
func startAgent(t *testing.T, files ...string) (socket string) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, f := range files {
		key, err := ssh.ParseRawPrivateKey([]byte(readFile(t, f)))
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: filepath.Base(f)}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
		os.RemoveAll(dir)
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				_ = agent.ServeAgent(ring, conn)
				conn.Close()
			})
		}
	})
	return socket
}

func TestAgent(t *testing.T) {
	other, _ := newKeyFile(t, "", "")
	file, pub := newKeyFile(t, "", "")
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) { s.PublicKeyCallback = n.accept(nil, pub) })
	socket := startAgent(t, other, file)
	t.Setenv("SSH_AUTH_SOCK", socket)
	mustDial(t, n.target(), nil)

	// Only the public half is on this machine.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	before := n.offers.Load()
	for _, path := range []string{file, file + ".pub"} {
		mustDial(t, with(n.target(), "IdentitiesOnly", "yes", "IdentityFile", path), nil)
	}
	if got := n.offers.Load() - before; got != 2 { // one key each time
		t.Errorf("%d offers with IdentitiesOnly", got)
	}
	e := failDial[*remote.AuthError](t, with(n.target(), "IdentitiesOnly", "yes", "IdentityFile", other), nil)
	if !strings.Contains(e.Error(), "in ssh-agent: refused") {
		t.Errorf("%v", e)
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	failDial[*remote.AuthError](t, n.target(), nil)
	mustDial(t, with(n.target(), "IdentityAgent", socket), nil)
	e = failDial[*remote.AuthError](t, with(n.target(), "IdentityAgent", socket+"x"), nil)
	if !strings.Contains(e.Error(), socket+"x") {
		t.Errorf("a missing agent is not told: %v", e)
	}
}

func TestPassword(t *testing.T) {
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) {
		s.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if string(password) == "sesame" {
				return nil, nil
			}
			return nil, errors.New("no")
		}
	})
	p := &fakePrompter{answers: []string{"wrong", "sesame"}}
	mustDial(t, n.target(), p)
	if q := p.questions(); len(q) != 2 || q[0] != "deploy@127.0.0.1's password: " {
		t.Errorf("asked %q", q)
	}
	p = &fakePrompter{answers: []string{"a", "b", "c", "sesame"}}
	failDial[*remote.AuthError](t, n.target(), p)
	if q := p.questions(); len(q) != 3 {
		t.Errorf("asked %q", q)
	}
	p = &fakePrompter{}
	if e := failDial[*remote.AuthError](t, n.target(), p); len(p.questions()) != 1 || !strings.Contains(e.Error(), "no answer") {
		t.Errorf("asked %q, %v", p.questions(), e)
	}
	if e := failDial[*remote.AuthError](t, n.target(), nil); !strings.Contains(e.Error(), "password: nobody can be asked") {
		t.Errorf("%v", e)
	}
	p = &fakePrompter{answers: []string{"sesame"}}
	failDial[*remote.AuthError](t, with(n.target(), "PasswordAuthentication", "no"), p)
	failDial[*remote.AuthError](t, with(n.target(), "BatchMode", "yes"), p)
	if len(p.questions()) != 0 {
		t.Errorf("asked %q", p.questions())
	}
}

func TestKeyThenQuestions(t *testing.T) {
	file, pub := newKeyFile(t, "", "")
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) {
		s.PublicKeyCallback = n.accept(&ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
			KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				answers, err := ask("", "Two\x1b[2Jquestions", []string{"One: ", "Two: "}, []bool{false, true})
				if err != nil || strings.Join(answers, "") != "12" {
					return nil, errors.New("no")
				}
				_, err = ask("", "", nil, nil)
				return nil, err
			},
		}}, pub)
	})
	target := n.target()
	target.IdentityFile = file
	p := &fakePrompter{answers: []string{"0", "0", "1", "2"}}
	mustDial(t, target, p)
	if q := strings.Join(p.questions(), "|"); !strings.Contains(q, "Two[2Jquestions\n(deploy@127.0.0.1) One: |(deploy@127.0.0.1) Two: ") || strings.Contains(q, "\x1b") {
		t.Errorf("asked %q", q)
	}
	failDial[*remote.AuthError](t, with(target, "KbdInteractiveAuthentication", "no"), p)
}

func TestTooManyKeys(t *testing.T) {
	var files []string
	for range 8 {
		f, _ := newKeyFile(t, "", "")
		files = append(files, f)
	}
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) {
		s.MaxAuthTries = 3
		s.PublicKeyCallback = n.accept(nil)
	})
	t.Setenv("SSH_AUTH_SOCK", startAgent(t, files...))
	p := &fakePrompter{answers: []string{"x"}}
	e := failDial[*remote.AuthError](t, n.target(), p)
	if !strings.Contains(e.Hint(), "IdentitiesOnly") || len(p.questions()) != 0 {
		t.Errorf("%v, hint %q, asked %q", e, e.Hint(), p.questions())
	}
}

// slowPrompter answers when it is told to.
type slowPrompter struct {
	asked  chan struct{}
	answer chan string
}

func (p slowPrompter) Secret(string) (string, error) {
	p.asked <- struct{}{}
	return <-p.answer, nil
}

func (p slowPrompter) Confirm(string) (bool, error) { return false, io.EOF }

func TestCancelWhileAsking(t *testing.T) {
	n := startGoNode(t, func(n *goNode, s *ssh.ServerConfig) {
		s.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }
	})
	p := slowPrompter{make(chan struct{}, 1), make(chan string)}
	defer close(p.answer)
	ctx, cancel := context.WithCancel(patient(t))
	go func() {
		<-p.asked
		cancel()
	}()
	if _, err := remote.Dial(ctx, n.target(), remote.Options{Prompt: p}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
