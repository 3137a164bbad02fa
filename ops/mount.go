package ops

import (
	"context"
	"strconv"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// mountOp mounts the bundle.
type mountOp struct{}

func parseMount(_ Host, a *arguments) (operation, error) { return mountOp{}, a.none() }

func (mountOp) run(ctx context.Context, t *task) Result {
	b := t.work.env.Bundle
	return orOK(resultOf(ctx, b.Mount(ctx)), "%s", b.MountPoint())
}

func (mountOp) explain(env *Env, _ *Step) string {
	n, mountpoint := env.Node, env.Bundle.MountPoint()
	if mountpoint == bundle.None {
		return "true"
	}
	args := []string{"bundlefs"}
	if n.Port() != 0 {
		args = append(args, "-p", strconv.Itoa(n.Port()))
	}
	if !n.UseSSHConfig() {
		args = append(args, "-F", "none")
	}
	if key, err := n.Key(); err == nil && key != "" {
		args = append(args, "-o", "IdentityFile="+key)
	}
	if n.Jump() != "" {
		args = append(args, "-o", "ProxyJump="+n.Jump())
	}
	return remote.Quote(append(args, remotePrefix(n)+env.Bundle.Dir(), mountpoint)...)
}
