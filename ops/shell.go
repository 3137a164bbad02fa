package ops

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"bundlefs/bundle"
	"bundlefs/internal/lease"
	"bundlefs/internal/remote"
)

// shellScript runs the line $5 as a step of the lock with the hash $1, and the mark $2, in the bundle
// $3, whose owner record is $4: whoever breaks the lock ends it (see agent_fence.py). It
// proves the lock as far as the node can hash. The signals that a terminal sends are for what
// runs; we wait for that, so as to remove its name.
const shellScript = `hash=$1 mark=$2 dir=$3 owner=$4 line=$5
cd || exit
trap : HUP INT QUIT TERM
set -- $(sed "s/.*) //" /proc/$$/stat 2>/dev/null)
name=.conc-step-$hash-$$-${20:-0}-$mark
(umask 077; : >"$name") || exit
lost=
token=$(sed -n 's/^  "token": "\([0-9a-f]*\)",*$/\1/p' "$dir/$owner" 2>/dev/null)
[ -n "$token" ] || lost=yes
sum=$(printf %s "$token" | sha256sum 2>/dev/null)
case $sum in ""|"$hash"*) ;; *) lost=yes ;; esac
if [ -n "$lost" ]; then
	echo "conc: lock lost" >&2
	code=143
else
	_CONC_STEP=$$-$mark sh -c "$line"
	code=$?
fi
rm -f "$name"
exit $code`

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
		line.WriteString(` "${SHELL:-/bin/sh}"`)
	} else {
		line.WriteString(" " + remote.Quote(words...))
	}
	token := env.Bundle.Token()
	if token == "" {
		return line.String()
	}
	var mark [16]byte
	rand.Read(mark[:]) // never fails: it ends the program instead
	return "exec " + remote.Quote("sh", "-c", shellScript, "sh", lease.Hash(token), "shell-"+hex.EncodeToString(mark[:]),
		env.Bundle.Dir(), bundle.RecordName, line.String())
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
