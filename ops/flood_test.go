package ops

import (
	"context"
	"testing"
)

// countSink counts lines, and interrupts at the first one.
type countSink struct {
	Sink
	lines  int
	cancel context.CancelFunc
}

func (s *countSink) Output(Step, Stream, string) {
	s.lines++
	s.cancel()
}

// A frame can hold 250,000 empty lines: an interrupt ends their showing between lines.
func TestInterruptedFlood(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &countSink{Sink: Discard{}, cancel: cancel}
	task := &task{work: &work{sink: s}, step: &Step{}}
	task.flood(ctx, Stdout, make([]string, 250_000))
	if s.lines > 3*maxTail {
		t.Errorf("%d lines were shown after the interrupt", s.lines)
	}
}
