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
	var most bundle.Progress
	return t.work.env.Bundle.Sync(ctx, func(p bundle.Progress) {
		most.Files, most.Bytes = max(most.Files, p.Files), max(most.Bytes, p.Bytes)
		if most.Bytes > 0 {
			t.progress(Progress{"barrier", most.Bytes - p.Bytes, most.Bytes, "bytes"})
		} else {
			t.progress(Progress{"barrier", most.Files - p.Files, most.Files, "files"})
		}
	})
}

func (syncOp) explain(env *Env, _ *Step) string {
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("bundlefs", "sync", env.Bundle.MountPoint())
}
