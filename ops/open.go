package ops

import (
	"context"
	"path"
	"path/filepath"

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
		return lockByHand(env, "by hand")
	}
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("mkdir", "-p", env.Bundle.MountPoint())
}

// lockByHand takes the lock with a record that says whose it is, with a token of its own or,
// when more is one, with that.
func lockByHand(env *Env, message string, more ...string) string {
	dir := env.Bundle.Dir()
	mkdir := remote.Quote("mkdir", dir)
	if parent := path.Dir(dir); parent != "." {
		mkdir = remote.Quote("mkdir", "-p", parent) + " && " + mkdir
	}
	words := append([]string{"python3", "-c", scriptLock, env.Node.Name, filepath.Join(env.Dir, "deploy.ini"), message}, more...)
	return remote.Quote(words...) + " | " + overSSH(env.Node, mkdir+" && umask 077 && cat >"+remote.Quote(recordPath(env))+" && "+remote.Quote("test", "-s", recordPath(env)))
}

// recordPath is the owner record on the node, relative to the home.
func recordPath(env *Env) string { return path.Join(env.Bundle.Dir(), bundle.RecordName) }

// orOK puts a message to a result that is OK.
func orOK(r Result, format string, args ...any) Result {
	if r.Status == OK {
		return ok(format, args...)
	}
	return r
}
