package ops

import (
	"context"
	"strings"

	"bundlefs/internal/remote"
)

// ShellLine is the line for the node's login shell that runs words in the bundle, with
// the venv first on PATH and the attributes in the environment, as a run step has
// them; without words it is the user's shell.
func ShellLine(env *Env, words []string) string {
	var line strings.Builder
	line.WriteString("cd " + remote.Quote(env.Bundle.Dir()) + " && exec env")
	vars := attributes(env)
	for _, key := range env.Node.Keys() {
		if value, ok := vars[envName(key)]; ok {
			line.WriteString(" " + remote.Quote(envName(key)+"="+value))
		}
	}
	if venv := env.Node.Venv(); venv != "" {
		line.WriteString(" VIRTUAL_ENV=" + homeVariable(venv) + " PATH=" + homeVariable(venv+"/bin") + `:"$PATH"`)
	}
	if len(words) == 0 {
		return line.String() + ` "${SHELL:-/bin/sh}"`
	}
	return line.String() + " " + remote.Quote(words...)
}

// homeVariable quotes a path below the home so that it can stand within a word.
func homeVariable(path string) string { return `"$HOME"/` + remote.Quote(path) }

// Enter makes the bundle ready to be worked in by hand: what was written here is on the
// node. The function that it gives lets the mount see what was done there.
func Enter(ctx context.Context, env *Env) (leave func(), err error) {
	mounted, err := env.mounted(ctx)
	if err != nil || !mounted {
		return func() {}, err
	}
	w := newWork(env, nil, Discard{})
	if err := (&task{work: w, step: &Step{}}).barrier(ctx); err != nil {
		return nil, err
	}
	return func() { w.drop(context.WithoutCancel(ctx), "shell") }, nil
}
