package ops

import (
	"context"
	"strings"
	"sync"
)

// task is one step that runs: where its output goes.
type task struct {
	work *work
	step *Step
	// secret goes with the task's requests as their password; nil: none.
	secret []byte

	mu   sync.Mutex // guards kept, and keeps the sink's calls apart
	kept []string
}

// output hands lines on; the last ones are kept for the result.
func (t *task) output(stream Stream, lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if stream != Stderr {
		stream = Stdout
	}
	for _, line := range lines {
		line = visible(line)
		t.work.sink.Output(*t.step, stream, line)
		t.keep(line)
	}
}

// flood is output of as many lines as a frame can hold. Once ctx has ended only the last of them are
// shown: who interrupts does not wait for the rest.
func (t *task) flood(ctx context.Context, stream Stream, lines []string) {
	for len(lines) > 0 {
		if ctx.Err() != nil {
			lines = lines[max(0, len(lines)-maxTail):]
		}
		n := min(len(lines), maxTail)
		t.output(stream, lines[:n])
		lines = lines[n:]
	}
}

// keep is called with mu held.
func (t *task) keep(lines ...string) {
	t.kept = append(t.kept, lines...)
	if len(t.kept) >= 2*maxTail {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-maxTail:]...)
	}
}

// trace hands on a traceback of the agent.
func (t *task) trace(text string) {
	t.output(Stderr, strings.Split(strings.TrimRight(text, "\n"), "\n"))
}

func (t *task) progress(p Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.work.sink.Progress(*t.step, p)
}

func (t *task) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.kept[max(0, len(t.kept)-maxTail):]...)
}
