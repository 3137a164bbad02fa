package ops

import (
	"context"
	"strings"
)

// stopOp halts the run.
type stopOp struct{ message string }

func parseStop(_ Host, a *arguments) (operation, error) {
	return stopOp{strings.Join(a.words, " ")}, nil
}

func (o stopOp) run(context.Context, *task) Result {
	message := o.message
	if message == "" {
		message = "stopped by the job list"
	}
	return Result{Status: Stopped, Message: message, ExitCode: -1}
}

func (o stopOp) explain(*Env, *Step) string {
	if o.message == "" {
		return "# stop"
	}
	return "# stop: " + visible(o.message)
}
