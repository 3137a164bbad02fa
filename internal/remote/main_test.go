package remote_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestMain(m *testing.M) {
	// The operator's own keys and agent must not help the tests to pass.
	home, err := os.MkdirTemp("", "remote-test")
	if err != nil {
		panic(err)
	}
	os.Setenv("HOME", home)
	os.Unsetenv("SSH_AUTH_SOCK")
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.RemoveAll(home)
	os.Exit(code)
}

// patience bounds every wait of these tests; it is no measure of speed.
const patience = 30 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustDial(t *testing.T, target remote.Target, p remote.Prompter) *remote.Client {
	t.Helper()
	c, err := remote.Dial(patient(t), target, remote.Options{Prompt: p})
	if err != nil {
		t.Fatalf("dial %s: %v", target, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// failDial dials and wants an error of type E.
func failDial[E error](t *testing.T, target remote.Target, p remote.Prompter) E {
	t.Helper()
	c, err := remote.Dial(patient(t), target, remote.Options{Prompt: p})
	if err == nil {
		c.Close()
		t.Fatalf("dial %s: it connected, want an error", target)
	}
	var want E
	if !errors.As(err, &want) {
		t.Fatalf("dial %s: %T %v, want %T", target, err, err, want)
	}
	hinted, ok := error(want).(interface{ Hint() string })
	if !ok || hinted.Hint() == "" {
		t.Errorf("%T has no hint", want)
	}
	return want
}

// fakePrompter answers from a list and remembers what it was asked.
type fakePrompter struct {
	mu      sync.Mutex // guards all below
	answers []string
	yes     bool
	asked   []string
}

func (p *fakePrompter) Secret(prompt string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, prompt)
	if len(p.answers) == 0 {
		return "", errors.New("no answer left")
	}
	a := p.answers[0]
	p.answers = p.answers[1:]
	return a, nil
}

func (p *fakePrompter) Confirm(prompt string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, prompt)
	return p.yes, nil
}

func (p *fakePrompter) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

// with is target with more options.
func with(target remote.Target, pairs ...string) remote.Target {
	options := map[string]string{}
	for k, v := range target.Options {
		options[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		options[pairs[i]] = pairs[i+1]
	}
	target.Options = options
	return target
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// waitDone waits for the end of a connection.
func waitDone(t *testing.T, c *remote.Client) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the connection did not end")
	}
}

// eventually polls a condition that no signal tells about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// through is the target of n, reached over link.
func through(t *testing.T, n *testnode.Node, link *testnode.Link) remote.Target {
	t.Helper()
	target := with(n.Target(), "HostKeyAlias", fmt.Sprintf("[127.0.0.1]:%d", n.Port))
	target.Port = link.Port()
	return target
}
