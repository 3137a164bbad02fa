package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// askTime bounds what it may take, after the link was lost, to find out whether the lock was lost, too.
const askTime = 10 * time.Second

// cut is the result of a step that has lost its agent. Whoever breaks the lock ends the agent, so the
// node is asked whether that is why.
func (w *work) cut(ctx context.Context, err error) Result {
	var gone *lostError
	if ctx.Err() == nil && errors.As(err, &gone) && w.env.Bundle.Token() != "" {
		if r := w.lostUnder(ctx, ""); r.Status == Error {
			return r
		}
	}
	return resultOf(ctx, err)
}

// lostUnder is the result of a step during which the lock was lost: ERROR, whatever its exit code. reason is
// what the agent has found; "" when nobody has, and then it is OK unless the node says so.
func (w *work) lostUnder(ctx context.Context, reason string) Result {
	err := LostUnder(ctx, w.env)
	switch {
	case err != nil:
		return Result{Status: Error, Message: visible(err.Error()), Hint: hintOf(err), Err: err, ExitCode: -1}
	case reason == "":
		return Result{}
	}
	return Result{Status: Error, Message: reason, Hint: "look who has it with conc status", Err: bundle.ErrNotOurs, ExitCode: -1}
}

// LostUnder asks the node whether the lock was lost to somebody under what ran there; the error says
// to whom. It is nil, too, when the node cannot be asked.
func LostUnder(ctx context.Context, env *Env) error {
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var lost *bundle.LostError
	if err := env.Bundle.Lost(asking); !errors.As(err, &lost) {
		return nil
	}
	return &lostUnderError{lost, env.Node.Name}
}

// lostUnderError says that the lock was lost under something that ran on the node, which was ended.
type lostUnderError struct {
	*bundle.LostError
	node string
}

// Error says who has the lock now.
func (e *lostUnderError) Error() string {
	switch {
	case e.Record != nil && e.Record.Token != "":
		return fmt.Sprintf("lock lost to %s@%s (since %s)", e.Record.User, e.Record.Host, e.Record.Time.UTC().Format(time.RFC3339))
	case e.Reason != "":
		return "lock lost: " + e.Reason
	}
	return "lock lost"
}

// Is tells this from the error of what was not begun: that is BLOCKED, this is ERROR.
func (e *lostUnderError) Is(target error) bool { return false }

// Hint says what to do.
func (e *lostUnderError) Hint() string {
	return "what ran there is ended; look at what it left. 'conc close " + remote.Quote(e.node) + " --forget' removes what is left of the bundle on this workstation"
}
