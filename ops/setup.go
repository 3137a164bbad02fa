package ops

import (
	"context"
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
	folder := o.glob
	for _, suffix := range []string{".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip"} {
		if name, ok := strings.CutSuffix(folder, suffix); ok {
			folder = name[strings.LastIndexByte(name, '/')+1:]
			break
		}
	}
	return inBundle(env, "cd "+globWord(folder)+"/ && "+venvPython(env)+" setup.py install")
}
