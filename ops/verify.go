package ops

import (
	"context"

	"bundlefs/internal/remote"
)

// verifyOp compares the bundle on the node with the manifest taken here.
type verifyOp struct{ strict bool }

func parseVerify(_ Host, a *arguments) (operation, error) {
	return verifyOp{a.has("--strict")}, a.none()
}

func (o verifyOp) run(ctx context.Context, t *task) Result {
	m, err := LoadManifest(t.work.env.Bundle)
	if err != nil {
		return resultOf(ctx, err)
	}
	if len(m) == 0 {
		return blocked("add a copy step before this one", "nothing was delivered into the bundle yet")
	}
	files := make(map[string][2]any, len(m))
	for path, e := range m {
		files[path] = [2]any{e.Size, e.SHA256}
	}
	return t.work.call(ctx, t, "verify", map[string]any{"files": files, "strict": o.strict})
}

// explain compares with the same manifest, whose lines it makes from the file here. Without
// one there is nothing to compare with, which is an error there, too.
func (o verifyOp) explain(env *Env, _ *Step) string {
	lines := remote.Quote("python3", "-X", "utf8", "-c", scriptManifest, env.Bundle.ManifestFile())
	if o.strict {
		return lines + " | " + inBundle(env, o.program(env))
	}
	return lines + " | " + inBundle(env, "sha256sum -c --quiet")
}

// program is the command on the node that compares with the lines of a manifest.
func (o verifyOp) program(env *Env) string {
	words := []string{"-X", "utf8", "-c", scriptVerify}
	if o.strict {
		words = append(words, "strict")
	}
	return homeWord(env.Node.Python()) + " " + remote.Quote(words...)
}
