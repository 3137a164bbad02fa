package ops

import "bundlefs/internal/progress"

// Stream tells which of a command's outputs a line is of.
type Stream int

// The streams.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Progress is how far a step, or the barrier before it, has come; its What is
// such as "copy" or "barrier".
type Progress = progress.State

// Sink takes the events of a run, in their order; its methods are never called
// at the same time. A method that takes long slows the run down.
type Sink interface {
	// StepStarted: step is the index-th of total, counted from 1.
	StepStarted(step Step, index, total int)
	// Output is one line of the step, without line feed or control characters.
	Output(step Step, stream Stream, line string)
	Progress(step Step, p Progress)
	StepEnded(step Step, r Result)
}

// Discard is a Sink that drops everything.
type Discard struct{}

// StepStarted does nothing.
func (Discard) StepStarted(Step, int, int) {}

// Output does nothing.
func (Discard) Output(Step, Stream, string) {}

// Progress does nothing.
func (Discard) Progress(Step, Progress) {}

// StepEnded does nothing.
func (Discard) StepEnded(Step, Result) {}
