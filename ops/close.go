package ops

import (
	"context"
	"encoding/json"
	"strings"

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
		return overSSH(env.Node, oursByHand(env)+" && "+remote.Quote("rm", "-r", env.Bundle.Dir()))
	}
	if env.Bundle.MountPoint() == bundle.None {
		return "true"
	}
	return remote.Quote("rmdir", env.Bundle.MountPoint())
}

// oursByHand succeeds on the node when the owner record names this user and workstation.
func oursByHand(env *Env) string {
	name, host, _ := strings.Cut(whoami(), "@")
	line := ""
	for _, field := range [][2]string{{"user", name}, {"host", host}} {
		text, err := json.Marshal(field[1])
		if err != nil { // a string always can be
			text = []byte(`""`)
		}
		if line != "" {
			line += " && "
		}
		line += remote.Quote("grep", "-qF", `"`+field[0]+`": `+string(text), recordPath(env))
	}
	return line
}
