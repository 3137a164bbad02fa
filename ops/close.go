package ops

import (
	"context"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// closeOp removes the bundle's folder: on the node only when it is ours.
type closeOp struct{ host Host }

func parseClose(host Host, a *arguments) (operation, error) { return closeOp{host}, a.none() }

func (o closeOp) run(ctx context.Context, t *task) Result {
	b := t.work.env.Bundle
	if o.host == Local {
		return orOK(resultOf(ctx, b.RemoveLocal(ctx)), "removed %s", b.MountPoint())
	}
	return orOK(resultOf(ctx, b.RemoveRemote(ctx)), "removed %s", b.Dir())
}

func (o closeOp) explain(env *Env, _ *Step) string {
	if o.host == Remote {
		return overSSH(env.Node, remote.Quote("rm", "-r", env.Bundle.Dir()))
	}
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("rmdir", env.Bundle.MountPoint())
}
