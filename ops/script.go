package ops

import (
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// The programs of a script's own, for python3 -c.
var (
	//go:embed script_lock.py
	scriptLock string
	//go:embed script_manifest.py
	scriptManifest string
	//go:embed script_stage.py
	scriptStage string
	//go:embed script_verify.py
	scriptVerify string
)

// scripter is an operation that a script, which has no mount, does in another way
// than by its explain.
type scripter interface {
	script(g *generator, s *Step) string
}

// generator writes the script of a job list.
type generator struct {
	env   *Env // without a mount
	steps []Step
	token string // in the owner record that the script writes
}

// Script gives a job list as a script for a POSIX shell on the workstation that does the
// same as conc with ssh, scp and python3 alone: it takes the lock with mkdir unless the
// list does, delivers with scp, halts at the first step that fails and says which, goes
// on with the step that is its argument, and takes the lock away at the end. The
// lock's record is one that conc understands.
func Script(env *Env, list string, steps []Step) string {
	own := *env
	own.Bundle = unmounted{env.Bundle}
	token := make([]byte, 32)
	rand.Read(token)
	g := &generator{&own, steps, hex.EncodeToString(token)}
	whole := false
	for i := range steps {
		whole = whole || steps[i].Op == "open" && steps[i].Host == Remote
	}
	head := strings.NewReplacer("LIST", visible(list), "NODE", env.Node.Name, "DIR", remote.Quote(env.Dir)).Replace(scriptHead)
	var functions, calls strings.Builder
	if !whole {
		fmt.Fprintf(&functions, "lock() {\n%s\n}\nunlock() {\n%s\n}\n", g.lock(), g.unlock())
		calls.WriteString("[ -n \"$from\" ] || run 'lock the node' 0 lock\n")
	}
	for i := range steps {
		s := &steps[i]
		text := s.op.explain(g.env, s)
		if op, ok := s.op.(scripter); ok {
			text = op.script(g, s)
		}
		fmt.Fprintf(&functions, "# %s\n", comment(string(s.Host)+" "+s.Op+" "+remote.Quote(s.Args...)))
		if s.Timeout > 0 {
			fmt.Fprintf(&functions, "# conc would end it after %s.\n", s.Timeout)
		}
		input := " </dev/null"
		if s.asRoot() {
			input = "" // sudo asks
		}
		fmt.Fprintf(&functions, "step_%d() {\n%s\n}\n", i+1, text)
		codes := make([]string, len(s.OKCodes))
		for k, c := range s.OKCodes {
			codes[k] = strconv.Itoa(c)
		}
		collect := ""
		if op, ok := s.op.(staging); ok {
			collect = fmt.Sprintf(" stage_%d", i+1)
			fmt.Fprintf(&functions, "stage_%d() {\n%s\n}\n", i+1, op.stage(g))
		}
		fmt.Fprintf(&calls, "run %s %s step_%d%s%s\n", remote.Quote(s.Name), remote.Quote(strings.Join(codes, " ")), i+1, collect, input)
	}
	calls.WriteString("[ -z \"$from\" ] || { say \"there is no step $from\"; exit 2; }\n")
	if !whole {
		calls.WriteString("run 'unlock the node' 0 unlock\n")
	}
	return head + functions.String() + "\n" + calls.String() + "say 'OK'"
}

// comment makes text fit for a comment line.
func comment(text string) string {
	return strings.TrimSpace(visible(strings.ReplaceAll(text, "\n", " ")))
}

// scriptHead is the beginning of each script.
const scriptHead = `#!/bin/sh
# The steps of LIST on NODE, as conc runs them, with ssh, scp and python3 alone.
# usage: sh SCRIPT          from the lock to its end
#        sh SCRIPT STEP     goes on with a step, when the lock is there already
set -u
from=${1-}
cd DIR || exit 2
stage=$(mktemp -d) || exit 2
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' HUP INT TERM
: >"$stage/manifest"

say() { printf '%s\n' "$*" >&2; }

# run NAME CODES FUNCTION [STAGE]: halts when the function ends with none of the codes.
run() {
	if [ -n "$from" ] && [ "$from" != "$1" ]; then
		[ $# -lt 4 ] || "$4"
		return
	fi
	from=
	now=$1
	say "== $1"
	code=0
	if [ $# -ge 4 ]; then "$4" || code=$?; fi
	[ "$code" != 0 ] || "$3" || code=$?
	case " $2 " in
	*" $code "*) ;;
	*)
		say "step $1: FAILED with exit code $code"
		say "the lock stays; go on with: sh $0 '$1'"
		exit 1
		;;
	esac
}

# halt MESSAGE NEXT: what a stop step does.
halt() {
	say "step $now: STOPPED: $1"
	[ -z "$2" ] || say "go on with: sh $0 '$2'"
	exit 0
}

`

// unmounted is a bundle as a script knows it.
type unmounted struct{ Bundle }

// MountPoint tells that there is none.
func (unmounted) MountPoint() string { return bundle.None }

// lock is the command that takes the lock; the record says whose it is.
func (g *generator) lock() string {
	return lockByHand(g.env, "a script of conc plan", g.token) + ` || { say 'somebody holds the lock, or the node cannot be reached'; return 1; }`
}

// unlock is the command that removes the bundle, if it is the script's.
func (g *generator) unlock() string {
	return overSSH(g.env.Node, remote.Quote("grep", "-q", g.token, recordPath(g.env))+" && "+remote.Quote("rm", "-rf", g.env.Bundle.Dir()))
}

func (o openOp) script(g *generator, _ *Step) string {
	if o.host == Local {
		return ": # there is no mount"
	}
	return g.lock()
}

func (o closeOp) script(g *generator, _ *Step) string {
	if o.host == Local {
		return ": # there is no mount"
	}
	return g.unlock()
}

func (mountOp) script(*generator, *Step) string   { return ": # there is no mount" }
func (unmountOp) script(*generator, *Step) string { return ": # there is no mount" }
func (syncOp) script(*generator, *Step) string    { return ": # all is on the node already" }

func (o stopOp) script(g *generator, s *Step) string {
	w := &work{env: g.env, steps: g.steps}
	return remote.Quote("halt", visible(o.message), w.next(s, Result{Status: Stopped}))
}

// staging is the operation of a step that delivers: a script collects first what it
// delivers, also of a step that is passed over, so that a verify step knows of it.
type staging interface {
	// stage is the command that fills "$stage/files" and notes the hashes.
	stage(g *generator) string
}

// emptyStage begins a staging, and noteHashes ends it.
func emptyStage(to string) string {
	return `rm -rf "$stage/files" && mkdir -p "$stage/files"/` + remote.Quote(to)
}

var noteHashes = `(cd "$stage/files" && ` + remote.Quote("python3", "-X", "utf8", "-c", scriptStage) + `) >>"$stage/manifest"`

// send is the command that brings what was collected to the node.
func (g *generator) send() string {
	return scp(g.env.Node, "-q", "-r", "-p") + ` "$stage/files/." ` + remote.Quote(remotePrefix(g.env.Node)+g.env.Bundle.Dir())
}

func (o copyOp) stage(*generator) string {
	line := emptyStage(o.to) + " && cp -rLp --"
	for _, glob := range o.globs {
		line += " " + globWord(glob)
	}
	return line + ` "$stage/files"/` + remote.Quote(o.to) + " &&\n" + noteHashes
}

func (o copyOp) script(g *generator, _ *Step) string { return g.send() }

func (o wheelOp) stage(g *generator) string {
	return emptyStage(o.to) + ` && d=$stage/build && rm -rf "$d" && mkdir "$d" &&` + "\n(" + o.build(g.env) + `) >&2 && cp -p "$d"/wheels/*.whl "$stage/files"/` + remote.Quote(o.to) + " &&\n" + noteHashes
}

func (o wheelOp) script(g *generator, _ *Step) string { return g.send() }

func (o verifyOp) script(g *generator, _ *Step) string {
	return inBundle(g.env, o.program(g.env)) + ` <"$stage/manifest"`
}
