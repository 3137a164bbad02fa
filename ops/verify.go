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

func (o verifyOp) explain(env *Env, _ *Step) string {
	list := "sha256sum *"
	if m, err := LoadManifest(env.Bundle); err == nil && len(m) > 0 {
		text := ""
		for _, path := range m.Paths() {
			text += m[path].SHA256 + "  " + path + "\n"
		}
		if len(text) < 4096 {
			return remote.Quote("printf", "%s", text) + " | " + inBundle(env, "sha256sum -c")
		}
	}
	return inBundle(env, list)
}
