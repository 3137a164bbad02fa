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
	args = append(args, "-o", "exclusive=-", remotePrefix(n)+env.Bundle.Dir(), mountpoint)
	// The token is asked of the node, so that it is in no plan or log, and no list of processes shows it.
	token := overSSH(n, remote.Quote("sed", "-n", `s/.*"token": "\([0-9a-f]*\)".*/\1/p`, recordPath(env)))
	return token + " | " + remote.Quote(args...)
}
