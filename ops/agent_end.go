package ops

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"bundlefs/internal/remote"
)

// noPythonError says that the node's python cannot run the agent: nothing was changed.
type noPythonError struct{ Python, Why string }

func (e *noPythonError) Error() string {
	return fmt.Sprintf("%s is not on the node%s", e.Python, e.Why)
}

// Hint says what to do.
func (e *noPythonError) Hint() string {
	return "install python3 (3.6 or later) on the node, or set 'python = PATH' in deploy.ini to where it is"
}

// lostError says that the connection or the agent went away under a step.
type lostError struct {
	msg string
	err error // may be nil
}

func (e *lostError) Error() string {
	if e.err == nil {
		return e.msg
	}
	return e.msg + ": " + e.err.Error()
}
func (e *lostError) Unwrap() error { return e.err }

// Hint says what to do.
func (e *lostError) Hint() string {
	return "what ran there ends with the connection, or when the agent has not heard of conc for 90 s; look at the node if in doubt, then go on from this step"
}

// why tells why the agent's output ended with err. started: its first line came.
func (a *agent) why(err error, started bool, noise string, status *remote.ExitStatus, waitErr error) error {
	select {
	case <-a.client.Done():
		if cause := a.client.Err(); cause != nil {
			return &lostError{"the link to the node was lost", cause}
		}
		return &lostError{"the link to the node was lost", err}
	default:
	}
	var silent *remote.SilentError
	if errors.As(waitErr, &silent) {
		return fmt.Errorf("the agent did not start: %w", silent)
	}
	stderr := strings.TrimSpace(a.stderr.String())
	if !started && status != nil {
		switch {
		case status.Code == 127, strings.Contains(stderr, "ot found"), strings.Contains(stderr, "No such file"):
			return &noPythonError{a.python, shown(": ", stderr)}
		case status.Code == 126:
			return &noPythonError{a.python, ", or cannot be run" + shown(": ", stderr)}
		case strings.Contains(stderr, "conc: this is python"), strings.Contains(stderr, "Unknown option: -I"):
			return &noPythonError{a.python + " 3.6 or later", shown(": ", strings.TrimPrefix(stderr, "conc: "))}
		}
	}
	what := "the agent ended"
	if !started {
		what = "the agent did not start"
	}
	switch {
	case status != nil && status.Signal != "":
		what += " by SIG" + status.Signal
	case status != nil:
		what += fmt.Sprintf(" with exit status %d", status.Code)
	case waitErr != nil:
		what += ": " + waitErr.Error()
	}
	if !started {
		what += shown("; before that came: ", noise)
	}
	what += shown("; it said: ", stderr)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return &lostError{what, err}
}

// shown gives the last lines of text in one, after prefix; "" without text.
func shown(prefix, text string) string {
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-5):]
	for i := range lines {
		lines[i] = visible(lines[i])
	}
	return prefix + strings.Join(lines, " | ")
}

// tail is a writer that keeps the last bytes.
type tail struct {
	limit int

	mu   sync.Mutex // guards kept
	kept []byte
}

// Write keeps the end of p and of what came before; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// String is what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
