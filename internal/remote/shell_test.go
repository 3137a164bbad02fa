package remote_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// watched tells when a word has been written.
type watched struct {
	word string
	seen chan struct{}

	mu   sync.Mutex // guards what follows
	text bytes.Buffer
	once sync.Once
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if strings.Contains(w.text.String(), w.word) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

// A command on a terminal knows its size and changes of it, and is ended by Ctrl-C.
func TestTerminal(t *testing.T) {
	n := testnode.Start(t)
	c, err := remote.Dial(t.Context(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sizes := make(chan remote.Window)
	in, keys := io.Pipe()
	out := &watched{word: "30 100", seen: make(chan struct{})}
	line := `stty size; echo $TERM; trap 'stty size; exit 9' INT; until [ "$(stty size)" = "30 100" ]; do sleep 0.1; done; stty size; sleep 300`
	p, err := c.StartOn(t.Context(), remote.Terminal{Type: "xterm", Window: remote.Window{Rows: 20, Columns: 70}, Resized: sizes}, line, in, out)
	if err != nil {
		t.Fatal(err)
	}
	sizes <- remote.Window{Rows: 30, Columns: 100}
	<-out.seen
	if _, err := keys.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait()
	keys.Close()
	if err != nil || status.Code != 9 {
		t.Fatal(status, err)
	}
	if text := out.text.String(); !strings.HasPrefix(text, "20 70\r\nxterm\r\n") {
		t.Errorf("%q", text)
	}
}
