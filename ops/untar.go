package ops

import (
	"context"
	"errors"
	"strings"
)

// untarOp unpacks archives inside the bundle.
type untarOp struct{ glob string }

func parseUntar(_ Host, a *arguments) (operation, error) {
	glob, err := oneGlob(a)
	return untarOp{glob}, err
}

// oneGlob gives the only word, a glob in the bundle.
func oneGlob(a *arguments) (string, error) {
	switch len(a.words) {
	case 0:
		return "", errors.New("needs a glob")
	case 1:
		return inside("glob", a.words[0])
	}
	return "", errors.New("takes one glob only")
}

func (o untarOp) run(ctx context.Context, t *task) Result {
	return t.work.call(ctx, t, "untar", map[string]any{"glob": o.glob})
}

func (o untarOp) explain(env *Env, _ *Step) string {
	command := `tar --no-same-owner -xf "$f"`
	if strings.HasSuffix(o.glob, ".zip") {
		command = homeWord(env.Node.Python()) + ` -m zipfile -e "$f" .`
	}
	return inBundle(env, "for f in "+globWord(o.glob)+"; do "+command+" || exit; done")
}
