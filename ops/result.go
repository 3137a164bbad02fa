package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bundlefs/bundle"
)

// Result is how a step ended, and of Run how the run ended: then it is the
// result of the last step that ran.
type Result struct {
	Status  Status
	Step    string   // the step's name; "" when no step was begun
	Message string   // one line: what happened
	Hint    string   // what can be done about it; may be ""
	Command string   // the step by hand, when it is not OK; see Explain
	Resume  string   // the command that goes on from here; "" when there is nothing left to do
	Next    string   // the step that Resume goes on with; may be ""
	Output  []string // the last lines of output
	Err     error    // the cause, when it is an error of ours; may be nil

	// ExitCode is that of the step's command; -1 when there is none.
	ExitCode int
	// Interrupted tells that a STOPPED comes from the context and not from a stop step.
	Interrupted bool

	Start   time.Time
	Elapsed time.Duration
}

// maxTail is how many of the last output lines a Result keeps.
const maxTail = 40

func ok(format string, args ...any) Result {
	return Result{Message: fmt.Sprintf(format, args...), ExitCode: -1}
}

func failed(hint, format string, args ...any) Result {
	return Result{Status: Failed, Message: fmt.Sprintf(format, args...), Hint: hint, ExitCode: -1}
}

func blocked(hint, format string, args ...any) Result {
	return Result{Status: Blocked, Message: fmt.Sprintf(format, args...), Hint: hint, ExitCode: -1}
}

// interrupted is the result of a step whose context was cancelled.
func interrupted(ctx context.Context) Result {
	return ended(ctx, Result{})
}

// ended gives a result the status that the end of its context means.
func ended(ctx context.Context, r Result) Result {
	r.ExitCode = -1
	switch {
	case errors.Is(context.Cause(ctx), errTimeout) || r.Status == TimedOut:
		r.Status = TimedOut
		r.Message = "not done in time"
		if r.Hint == "" {
			r.Hint = "it was killed with all that it started; give the step a longer --timeout if it needs more time"
		}
	default:
		r.Status, r.Interrupted, r.Message = Stopped, true, "interrupted"
	}
	var lost *lostError
	if errors.As(r.Err, &lost) { // then nobody knows whether the node has ended it
		r.Message, r.Hint = r.Message+", but "+visible(lost.Error()), lost.Hint()
	}
	if r.Err == nil {
		r.Err = context.Cause(ctx)
	}
	return r
}

// resultOf is the result of a step that ended with err; OK for nil.
func resultOf(ctx context.Context, err error) Result {
	r := Result{Err: err, ExitCode: -1}
	if err == nil {
		return r
	}
	if ctx.Err() != nil {
		return ended(ctx, r)
	}
	r.Status, r.Message, r.Hint = Error, visible(err.Error()), hintOf(err)
	var noPython *noPythonError
	var refused *bundle.RefusedError
	switch {
	case errors.Is(err, bundle.ErrBlocked), errors.Is(err, bundle.ErrNotOurs), errors.Is(err, bundle.ErrNotOpen), errors.As(err, &noPython):
		r.Status = Blocked
	case errors.As(err, &refused):
		r.Status = Failed
	}
	return r
}

// hintOf gives the hint that an error carries.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
