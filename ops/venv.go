package ops

import (
	"context"
	"errors"

	"bundlefs/internal/remote"
)

// venvOp makes the virtual environment on the node.
type venvOp struct{ withPip, keep, clear bool }

func parseVenv(_ Host, a *arguments) (operation, error) {
	o := venvOp{a.has("--with-pip"), a.has("--keep"), a.has("--clear")}
	if o.keep && o.clear {
		return nil, errors.New("--keep and --clear exclude each other")
	}
	return o, a.none()
}

func (o venvOp) run(ctx context.Context, t *task) Result {
	if r, ok := needVenv(t); !ok {
		return r
	}
	return t.work.call(ctx, t, "venv", map[string]any{"with_pip": o.withPip, "keep": o.keep, "clear": o.clear})
}

func (o venvOp) explain(env *Env, _ *Step) string {
	args := []string{"-m", "venv"}
	if !o.withPip {
		args = append(args, "--without-pip")
	}
	if o.clear {
		args = append(args, "--clear")
	}
	line := homeWord(env.Node.Python()) + " " + remote.Quote(append(args, env.Node.Venv())...)
	if o.keep {
		line = remote.Quote("test", "-x", env.Node.Venv()+"/bin/python") + " || " + line
	}
	return overSSH(env.Node, line)
}

// needVenv refuses a step for which the node has no attribute venv.
func needVenv(t *task) (Result, bool) {
	if t.work.env.Node.Venv() == "" {
		return blocked("set 'venv = PATH' in deploy.ini: a folder below the user's home on the node", "the node has no attribute venv"), false
	}
	return Result{}, true
}
