package ops

import (
	"context"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// unmountOp unmounts the bundle, after a barrier.
type unmountOp struct{}

func parseUnmount(_ Host, a *arguments) (operation, error) { return unmountOp{}, a.none() }

func (unmountOp) run(ctx context.Context, t *task) Result {
	b := t.work.env.Bundle
	return orOK(resultOf(ctx, b.Unmount(ctx)), "%s", b.MountPoint())
}

func (unmountOp) explain(env *Env, _ *Step) string {
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("bundlefs", "unmount", env.Bundle.MountPoint())
}
