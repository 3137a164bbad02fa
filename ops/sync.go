package ops

import (
	"context"

	"bundlefs/bundle"
	"bundlefs/internal/progress"
	"bundlefs/internal/remote"
)

// syncOp is the barrier as a step of its own.
type syncOp struct{}

func parseSync(_ Host, a *arguments) (operation, error) { return syncOp{}, a.none() }

func (syncOp) run(ctx context.Context, t *task) Result {
	switch mounted, err := t.work.env.mounted(ctx); {
	case err != nil:
		return resultOf(ctx, err)
	case !mounted:
		return ok("not mounted: nothing to do")
	}
	return orOK(resultOf(ctx, t.barrier(ctx)), "all is on the node")
}

// barrier syncs the mount, with its progress.
func (t *task) barrier(ctx context.Context) error {
	shown := progress.Barrier{What: "barrier"}
	return t.work.env.Bundle.Sync(ctx, func(p bundle.Progress) { t.progress(shown.Left(p.Files, p.Bytes)) })
}

// before is the barrier before a remote step. One that the agent does has the lock proved there,
// when it begins, so that nobody waits for the node twice.
func (t *task) before(ctx context.Context) error {
	if !t.step.byAgent() {
		return t.barrier(ctx)
	}
	shown := progress.Barrier{What: "barrier"}
	return t.work.env.Bundle.Send(ctx, func(p bundle.Progress) { t.progress(shown.Left(p.Files, p.Bytes)) })
}

func (syncOp) explain(env *Env, _ *Step) string {
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("bundlefs", "sync", env.Bundle.MountPoint())
}
