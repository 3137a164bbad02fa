package remote_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// screen keeps what is written, and tells of it.
type screen struct {
	wrote chan struct{} // holds one token when something was written

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.wrote <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

// until waits for a text.
func (s *screen) until(t *testing.T, text string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		s.mu.Lock()
		got := s.text.String()
		s.mu.Unlock()
		if strings.Contains(got, text) {
			return
		}
		select {
		case <-s.wrote:
		case <-late:
			t.Fatalf("%q lacks %q", got, text)
		}
	}
}

// A command on a terminal knows its size and changes of it, and is ended by Ctrl-C.
func TestTerminal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("needs root: left out") // no other user's sshd can give a terminal away
		return
	}
	n := testnode.Start(t)
	c, err := remote.Dial(t.Context(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sizes := make(chan remote.Window)
	in, keys := io.Pipe()
	out := &screen{wrote: make(chan struct{}, 1)}
	line := `stty size; echo $TERM; until [ "$(stty size)" = "30 100" ]; do sleep 0.1; done; stty size; echo ready; exec sleep 300`
	p, err := c.StartOn(t.Context(), remote.Terminal{Type: "xterm", Window: remote.Window{Rows: 20, Columns: 70}, Resized: sizes}, line, in, out)
	if err != nil {
		t.Fatal(err)
	}
	out.until(t, "20 70\r\nxterm\r\n")
	sizes <- remote.Window{Rows: 30, Columns: 100}
	out.until(t, "30 100\r\nready\r\n") // before that, a shell may take Ctrl-C for its command's, which has just ended
	if _, err := keys.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait()
	keys.Close()
	if err != nil || status.Signal != "INT" {
		t.Fatal(status, err)
	}
}
