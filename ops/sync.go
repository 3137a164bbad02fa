package ops

import (
	"context"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// syncOp is the barrier as a step of its own.
type syncOp struct{}

func parseSync(_ Host, a *arguments) (operation, error) { return syncOp{}, a.none() }

func (syncOp) run(ctx context.Context, t *task) Result {
	return orOK(resultOf(ctx, t.work.env.Bundle.Sync(ctx, t.progress)), "all is on the node")
}

func (syncOp) explain(env *Env, _ *Step) string {
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("bundlefs", "sync", env.Bundle.MountPoint())
}
