package ops

import (
	"context"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// openOp creates the bundle's folder: on the node with the lock, here as the mount point.
type openOp struct{ host Host }

func parseOpen(host Host, a *arguments) (operation, error) { return openOp{host}, a.none() }

func (o openOp) run(ctx context.Context, t *task) Result {
	b := t.work.env.Bundle
	if o.host == Local {
		return orOK(resultOf(ctx, b.MakeLocal(ctx)), "%s", b.MountPoint())
	}
	return orOK(resultOf(ctx, b.Lock(ctx)), "%s is ours", b.Dir())
}

func (o openOp) explain(env *Env, _ *Step) string {
	if o.host == Remote {
		return overSSH(env.Node, remote.Quote("mkdir", env.Bundle.Dir()))
	}
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("mkdir", "-p", env.Bundle.MountPoint())
}

// orOK puts a message to a result that is OK.
func orOK(r Result, format string, args ...any) Result {
	if r.Status == OK {
		return ok(format, args...)
	}
	return r
}
