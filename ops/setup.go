package ops

import (
	"context"
	"path"
	"strings"
)

// setupOp installs an unpacked sdist with its setup.py.
type setupOp struct{ glob string }

func parseSetup(_ Host, a *arguments) (operation, error) {
	glob, err := oneGlob(a)
	return setupOp{glob}, err
}

func (o setupOp) run(ctx context.Context, t *task) Result {
	if r, ok := needVenv(t); !ok {
		return r
	}
	return t.work.call(ctx, t, "setup", map[string]any{"glob": o.glob})
}

func (o setupOp) explain(env *Env, _ *Step) string {
	return inBundle(env, "cd "+globWord(unpackedName(o.glob))+"/ && "+venvPython(env)+" setup.py install")
}

// unpackedName is the folder that an sdist unpacks to, of its name or a glob of it.
func unpackedName(name string) string {
	for _, suffix := range []string{".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip"} {
		if stem, ok := strings.CutSuffix(name, suffix); ok {
			return path.Base(stem)
		}
	}
	return name
}
