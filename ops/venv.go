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

// explain takes what is there already as the step does: it is kept or cleared when
// that is asked for and it is a virtual environment; else it is left, and an error.
func (o venvOp) explain(env *Env, _ *Step) string {
	venv := env.Node.Venv()
	args := []string{"-m", "venv"}
	if !o.withPip {
		args = append(args, "--without-pip")
	}
	if o.clear {
		args = append(args, "--clear")
	}
	create := homeWord(env.Node.Python()) + " " + remote.Quote(append(args, venv)...)
	empty := `test -z "$(ls -A ` + remote.Quote(venv) + ` 2>/dev/null)"`
	isVenv := remote.Quote("test", "-f", venv+"/pyvenv.cfg")
	switch {
	case o.keep:
		return overSSH(env.Node, "if "+empty+"; then "+create+"; else "+isVenv+" && "+remote.Quote(venv+"/bin/python")+" -c ''; fi")
	case o.clear:
		return overSSH(env.Node, "{ "+empty+" || "+isVenv+"; } && "+create)
	}
	return overSSH(env.Node, "{ "+empty+" || { echo "+remote.Quote("there is something at "+venv+" already")+" >&2; false; }; } && "+create)
}

// needVenv refuses a step for which the node has no attribute venv.
func needVenv(t *task) (Result, bool) {
	if t.work.env.Node.Venv() == "" {
		return blocked("set 'venv = PATH' in deploy.ini: a folder below the user's home on the node", "the node has no attribute venv"), false
	}
	return Result{}, true
}
