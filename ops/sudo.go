package ops

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"bundlefs/internal/remote"
)

// sudoOp is a command as root on the node, in the bundle. The words are the
// command and its arguments, with no shell between, so that the rules of sudoers
// see the very command: a shell is asked for with sh -c 'LINE'.
type sudoOp struct {
	words []string
	free  bool // sudo wants no password for it
}

func parseSudo(_ Host, a *arguments) (operation, error) {
	o := sudoOp{a.words, a.has("--no-password")}
	switch {
	case len(a.words) == 0 || a.words[0] == "":
		return nil, errors.New("needs a command")
	case strings.HasPrefix(a.words[0], "-"):
		return nil, &ArgError{fmt.Sprintf("the command %q begins with -", a.words[0]), "options of sudo itself cannot be given: name the command"}
	case strings.ContainsRune(strings.Join(a.words, ""), 0):
		return nil, errors.New("the command has a NUL byte")
	}
	return o, nil
}

// needsSudo makes the password be asked for before the first step.
func (o sudoOp) needsSudo() bool { return !o.free }

func (o sudoOp) run(ctx context.Context, t *task) Result {
	return t.work.call(ctx, t, "sudo", map[string]any{"words": o.words, "free": o.free})
}

func (o sudoOp) explain(env *Env, _ *Step) string {
	line := overSSH(env.Node, "cd "+remote.Quote(env.Bundle.Dir())+" && sudo -- "+remote.Quote(o.words...))
	if o.free {
		return line
	}
	return strings.Replace(line, "ssh ", "ssh -t ", 1) // sudo asks on it
}

// sudoTime bounds what sudo may take to tell whether it lets us in.
const sudoTime = 30 * time.Second

// sudoState is what is known of sudo on the node of an Env.
type sudoState struct {
	asked    bool   // the node was asked whether it wants a password
	password []byte // nil: it wants none
}

// asRoot tells whether the step, or a part of it, is done as root.
func (s *Step) asRoot() bool { return s.Op == "sudo" || s.NeedsSudo() }

// firstSudo gives the first step that needs sudo; nil when none does.
func firstSudo(steps []Step) *Step {
	for i := range steps {
		if steps[i].NeedsSudo() {
			return &steps[i]
		}
	}
	return nil
}

// Authorize finds out whether the node wants a sudo password for the steps, has
// env ask for it, and proves it. Run does that by itself; to call it
// before is for who works on several nodes, so that all is asked before
// anything is done. What it learns is kept in env until Forget. A result
// that is not OK is that of a run in which no step was begun.
func Authorize(ctx context.Context, env *Env, steps []Step, o Options) Result {
	chosen, err := Select(steps, o.From, o.To)
	if err != nil {
		return Result{Status: Blocked, Message: err.Error(), Hint: hintOf(err), Err: err, ExitCode: -1}
	}
	if firstSudo(chosen) == nil {
		return Result{ExitCode: -1}
	}
	w := newWork(env, steps, Discard{})
	defer w.close()
	r := w.authorize(ctx, chosen)
	if r.Status == OK { // Run goes on with it: nothing is started or proved twice
		env.agent, w.agent = w.agent, nil
	}
	return r
}

// authorized gives the agent that Authorize started; nil when there is none that lives.
func (e *Env) authorized() *agent {
	a := e.agent
	e.agent = nil
	if a != nil && a.reason() != nil {
		a.close()
		return nil
	}
	return a
}

// Forget wipes the sudo password, and ends what Authorize started if no Run did.
func (e *Env) Forget() {
	if e.agent != nil {
		e.agent.close()
		e.agent = nil
	}
	clear(e.sudo.password)
	e.sudo = sudoState{}
}

// authorize makes the agent ready for the steps that need sudo.
func (w *work) authorize(ctx context.Context, chosen []Step) Result {
	s := firstSudo(chosen)
	if s == nil || w.agent != nil && w.owner.sudo.asked { // this very agent has proved it
		return Result{ExitCode: -1}
	}
	// Connecting may take its time, and ask for passwords of its own.
	r := resultOf(ctx, w.ready(ctx))
	if r.Status == OK {
		limited, cancel := context.WithTimeoutCause(ctx, sudoTime, errTimeout)
		r = w.prove(limited, ctx, s)
		cancel()
	}
	if r.Status == OK {
		return r
	}
	if r.Status == TimedOut {
		r.Status, r.Message, r.Hint = Blocked, fmt.Sprintf("sudo on the node did not answer within %s", sudoTime), "try 'sudo -v' there"
	}
	if r.Hint == "" {
		r.Hint = hintOf(r.Err)
	}
	r.Message = "before the first step: " + r.Message
	r.Next = chosen[0].Name
	r.Resume = w.resume(r.Next)
	return r
}

// prove asks the node and, when it wants one, for the password. asking is without the limit
// of time: a person is asked.
func (w *work) prove(ctx, asking context.Context, s *Step) Result {
	state := &w.owner.sudo
	t := &task{work: &work{log: w.log, sink: Discard{}}, step: &Step{Name: s.Name, OKCodes: []int{0}, Timeout: sudoTime}}
	r := w.call(ctx, t, "sudo_probe", map[string]any{})
	if r.Status != OK || r.Message == "free" {
		state.asked = r.Status == OK
		return r
	}
	if state.password == nil {
		if w.owner.SudoPassword == nil {
			return blocked("", "sudo on the node wants a password for step %s, and there is nobody to ask", s.Name)
		}
		password, err := w.owner.SudoPassword(asking)
		if err != nil {
			r := resultOf(asking, err)
			if r.Status == Error {
				r.Status = Blocked
			}
			return r
		}
		state.password = password
	}
	fresh, cancel := context.WithTimeoutCause(asking, sudoTime, errTimeout)
	defer cancel()
	t.secret = state.password
	if r = w.call(fresh, t, "sudo_validate", map[string]any{}); r.Status != OK {
		w.owner.Forget()
		return r
	}
	state.asked = true
	return r
}

// withSecret adds a password to the JSON of a frame, as base64, without a
// string in which it would stay.
func withSecret(frame, secret []byte) []byte {
	const key = `,"password":"`
	size := base64.StdEncoding.EncodedLen(len(secret))
	out := make([]byte, 0, len(frame)+len(key)+size+2)
	out = append(out, frame[:len(frame)-1]...) // all but the brace
	out = append(out, key...)
	out = base64.StdEncoding.AppendEncode(out, secret)
	out = append(out, `"}`...)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}
