package main

import (
	"context"
	"errors"
	"fmt"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
	"bundlefs/ops"
)

// The exit codes of conc. They are part of its interface and never reused.
const (
	exitOK          = 0   // OK, or STOPPED by plan
	exitFailed      = 1   // FAILED: it ran and did not achieve it
	exitUsage       = 2   // wrong arguments, or an error in deploy.ini
	exitBlocked     = 3   // BLOCKED: a precondition does not hold, nothing was changed
	exitError       = 4   // ERROR: conc, the node or the link between them broke
	exitTimedOut    = 5   // TIMED OUT
	exitInterrupted = 130 // Ctrl-C, or nobody reads the output any more
)

// rank orders exit codes from good to bad: with several nodes the worst counts.
var rank = map[int]int{
	exitOK: 0, exitBlocked: 1, exitFailed: 2, exitTimedOut: 3, exitError: 4, exitUsage: 5, exitInterrupted: 6,
}

// usageError is a wrong way of calling conc.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// Hint says how to call it.
func (e *usageError) Hint() string { return e.hint }

func usagef(hint, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), hint}
}

// runError is a run that did not end OK; the sink has shown how each step
// ended.
type runError struct {
	node   string
	list   string
	result ops.Result
}

func (e *runError) Error() string {
	r := &e.result
	s := fmt.Sprintf("%s: %s", e.node, e.list)
	if r.Step != "" {
		s += ": " + r.Step
	}
	s += ": " + r.Status.String()
	if r.Message != "" {
		s += ": " + r.Message
	}
	return s
}

func (e *runError) Unwrap() error { return e.result.Err }

// Hint says how to go on.
func (e *runError) Hint() string {
	r := &e.result
	var hint string
	add := func(format string, text string) {
		if text == "" {
			return
		}
		if hint != "" {
			hint += "\n"
		}
		hint += fmt.Sprintf(format, text)
	}
	add("%s", r.Hint)
	add("by hand: %s", r.Command)
	add("go on with: %s", r.Resume)
	return hint
}

func (e *runError) code() int {
	switch e.result.Status {
	case ops.OK:
		return exitOK
	case ops.Failed:
		return exitFailed
	case ops.Blocked:
		return exitBlocked
	case ops.TimedOut:
		return exitTimedOut
	case ops.Stopped:
		if e.result.Interrupted {
			return exitInterrupted
		}
		return exitOK
	}
	return exitError
}

// severalErrors are what went wrong on several nodes; each was shown already.
type severalErrors struct {
	codes []int
	count int
	hint  string
}

// Hint tells of nodes that were not begun.
func (e *severalErrors) Hint() string { return e.hint }

func (e *severalErrors) Error() string {
	return fmt.Sprintf("%d of %d nodes: not OK", len(e.codes), e.count)
}

// blockedError is a precondition that does not hold; nothing was changed.
type blockedError struct {
	err  error
	hint string
}

func (e *blockedError) Error() string { return e.err.Error() }
func (e *blockedError) Unwrap() error { return e.err }

// Is makes it one of those that exit with BLOCKED.
func (e *blockedError) Is(target error) bool { return target == bundle.ErrBlocked }

// Hint says what to do.
func (e *blockedError) Hint() string { return e.hint }

// exitCode gives the code for an error that ended a command.
func exitCode(err error) int {
	var (
		usage   *usageError
		inFile  deploy.Errors
		config  *remote.ConfigError
		run     *runError
		several *severalErrors
		shell   *shellError
		refused *bundle.RefusedError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &several):
		worst := exitOK
		for _, c := range several.codes {
			if rank[c] > rank[worst] {
				worst = c
			}
		}
		return worst
	case errors.As(err, &run):
		return run.code()
	case errors.As(err, &shell):
		return shell.code
	case errors.As(err, &usage), errors.As(err, &inFile), errors.As(err, &config):
		return exitUsage
	case errors.Is(err, context.Canceled), errors.Is(err, errNoReader):
		return exitInterrupted
	case errors.Is(err, bundle.ErrBlocked), errors.Is(err, bundle.ErrNotOpen), errors.Is(err, bundle.ErrNotOurs):
		return exitBlocked
	case errors.As(err, &refused):
		return exitFailed
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimedOut
	}
	return exitError
}

// statusWord is the status that an error stands for, for people.
func statusWord(err error) string {
	switch exitCode(err) {
	case exitOK:
		return ops.OK.String()
	case exitBlocked:
		return ops.Blocked.String()
	case exitTimedOut:
		return ops.TimedOut.String()
	case exitFailed:
		return ops.Failed.String()
	case exitInterrupted:
		return ops.Stopped.String()
	}
	return ops.Error.String()
}

// hintOf gives what an error says can be done about it.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
