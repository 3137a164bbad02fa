package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/lease"
	"bundlefs/internal/nearest"
	"bundlefs/internal/remote"
)

// Options of a run.
type Options struct {
	From string // the first step's name; "": the first of the list
	To   string // the last step's name, inclusive; "": the last of the list
	// WithoutSudo skips the steps that are done as root: a rehearsal does nothing as root.
	WithoutSudo bool
	// Before is asked before each step what to do with it; nil: Go with all. It may take any time.
	Before func(ctx context.Context, step Step, index, total int) (Choice, error)
}

// Choice is what to do with a step.
type Choice int

// The choices.
const (
	Go   Choice = iota // run it
	Skip               // go on with the next one; the step counts as OK
	Halt               // STOPPED before it
)

// Select gives the steps between from and to, inclusive; "" is an end of the list.
func Select(steps []Step, from, to string) ([]Step, error) {
	index := func(option, name string, otherwise int) (int, error) {
		if name == "" {
			return otherwise, nil
		}
		names := make([]string, len(steps))
		for i, s := range steps {
			names[i] = s.Name
		}
		if i := slices.Index(names, name); i >= 0 {
			return i, nil
		}
		hint := "the steps are: " + fmt.Sprint(names)
		if n := nearest.Word(name, names); n != "" {
			hint = fmt.Sprintf("did you mean %q?", n)
		}
		return 0, &ArgError{fmt.Sprintf("%s: there is no step %q", option, name), hint}
	}
	first, err := index("--from", from, 0)
	if err != nil {
		return nil, err
	}
	last, err := index("--to", to, len(steps)-1)
	if err != nil {
		return nil, err
	}
	if last < first && len(steps) > 0 {
		return nil, &ArgError{fmt.Sprintf("--to %s comes before --from %s", to, from), "give them in the order of the list"}
	}
	return steps[first : last+1], nil
}

// work is one run.
type work struct {
	env   *Env // of the steps: the owner's, but SudoPassword gives what was proved
	owner *Env
	log   *slog.Logger
	steps []Step // the whole list
	sink  Sink
	agent *agent // nil until a step needs it
	early *early // nil when none is being started

	last    *Step  // after which the agent is not needed any more
	audited bool   // the agent puts the step down that runs
	notes   []byte // frames for the agent, which does not run yet
}

var errTimeout = errors.New("the step's time is over")

// Run runs the steps in their order until one is not OK, and gives the result
// of the last one that ran. The sink may be nil. The agent on the node is
// started beside what comes before the first step that needs it, and has ended
// when Run returns.
func Run(ctx context.Context, env *Env, steps []Step, o Options, sink Sink) Result {
	chosen, err := Select(steps, o.From, o.To)
	if err != nil {
		return Result{Status: Blocked, Message: err.Error(), Hint: hintOf(err), Err: err, ExitCode: -1}
	}
	if sink == nil {
		sink = Discard{}
	}
	w := newWork(env, steps, sink)
	defer w.close()
	w.agent = env.authorized()
	w.ahead(ctx, chosen)
	if r := w.foresee(ctx, chosen); r.Status != OK {
		return r
	}
	if !o.WithoutSudo {
		if r := w.authorize(ctx, chosen); r.Status != OK {
			return r
		}
	}
	last := Result{Message: "no steps", ExitCode: -1}
	if len(chosen) > 0 {
		w.last = &chosen[len(chosen)-1]
	}
	for i := range chosen {
		s := &chosen[i]
		choice := Go
		if o.WithoutSudo && s.asRoot() {
			choice = Skip
		} else if o.Before != nil {
			if choice, err = o.Before(ctx, *s, i+1, len(chosen)); err != nil && ctx.Err() == nil {
				w.log.Warn("stopped before the step", "step", s.Name, "error", err)
				choice = Halt
			}
		}
		sink.StepStarted(*s, i+1, len(chosen))
		switch choice {
		case Go:
			w.audited = false
			last = w.visit(ctx, s)
			w.note(s, last)
		case Skip:
			last = Result{Step: s.Name, Message: "skipped", ExitCode: -1, Start: time.Now()}
		default:
			last = w.halted(s)
		}
		sink.StepEnded(*s, last)
		if last.Status != OK {
			break
		}
	}
	return last
}

func newWork(env *Env, steps []Step, sink Sink) *work {
	own := *env
	own.SudoPassword = func(context.Context) ([]byte, error) { return env.sudo.password, nil }
	w := &work{env: &own, owner: env, log: env.Log, steps: steps, sink: sink}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	return w
}

func (w *work) close() {
	w.early.drop()
	if w.agent != nil {
		w.agent.close()
	}
}

// halted is the result of a step before which the operator stopped.
func (w *work) halted(s *Step) Result {
	r := Result{Status: Stopped, Step: s.Name, Message: "stopped before this step", ExitCode: -1, Start: time.Now()}
	r.Command = Explain(*s, *w.env)
	r.Next, r.Resume = s.Name, w.resume(s.Name)
	return r
}

// visit runs one step with its barrier, and completes its result.
func (w *work) visit(ctx context.Context, s *Step) Result {
	t := &task{work: w, step: s}
	start := time.Now()
	r := w.attempt(ctx, s, t)
	r.Step, r.Start, r.Elapsed, r.Output = s.Name, start, time.Since(start), t.lines()
	if r.Status == OK {
		return r
	}
	if r.Hint == "" {
		r.Hint = hintOf(r.Err)
	}
	if r.Status == TimedOut && s.Timeout > 0 {
		r.Message = fmt.Sprintf("not done in %s", s.Timeout)
	}
	r.Command = Explain(*s, *w.env)
	if errors.Is(r.Err, bundle.ErrNotOurs) {
		r.Command = "# the lock is lost: the bundle may be another's"
	}
	if r.Next = w.next(s, r); r.Next != "" {
		r.Resume = w.resume(r.Next)
	}
	return r
}

func (w *work) attempt(ctx context.Context, s *Step, t *task) Result {
	if err := ctx.Err(); err != nil {
		return interrupted(ctx)
	}
	mounted := false
	if s.Host == Remote && s.Op != "open" { // which needs nothing of what is in the bundle
		var err error
		if mounted, err = w.env.mounted(ctx); err == nil && mounted {
			err = t.before(ctx)
		}
		if err != nil {
			return w.barrierResult(ctx, err)
		}
	}
	limited := ctx
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, s.Timeout, errTimeout)
		defer cancel()
	}
	r := s.op.run(limited, t)
	if mounted {
		// A step that was stopped wrote something too: the cache is dropped anyway.
		w.drop(context.WithoutCancel(ctx), s.Name)
	}
	return r
}

// drop has the mount forget what it cached.
func (w *work) drop(ctx context.Context, step string) {
	quick, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := w.env.Bundle.Drop(quick); err != nil {
		w.log.Warn("the mount may show old content", "step", step, "error", err)
	}
}

// barrierResult is that of a step that was not begun, since the barrier did not
// pass: BLOCKED by what the node refuses, ERROR when it cannot be asked.
func (w *work) barrierResult(ctx context.Context, err error) Result {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	r := resultOf(ctx, fmt.Errorf("barrier before the step: %w", err))
	if r.Status == Failed {
		r.Status = Blocked
	}
	return r
}

// next is the step that goes on: after a stop step the one behind it, "" when there is none.
func (w *work) next(s *Step, r Result) string {
	if s.Op != "stop" || r.Status != Stopped || r.Interrupted {
		return s.Name
	}
	i := slices.IndexFunc(w.steps, func(x Step) bool { return x.Name == s.Name })
	if i < 0 || i+1 == len(w.steps) {
		return ""
	}
	return w.steps[i+1].Name
}

// resume is the command that goes on with a step.
func (w *work) resume(from string) string {
	list := ""
	if len(w.steps) > 0 {
		list = w.steps[0].List
	}
	if list == "" || list == deploy.Install {
		return remote.Quote("conc", "install", w.env.Node.Name, "--from", from)
	}
	return remote.Quote("conc", "run", w.env.Node.Name, list, "--from", from)
}

// ready connects and starts the agent, unless it runs.
func (w *work) ready(ctx context.Context) error {
	if w.agent != nil {
		return nil
	}
	if w.agent = w.early.take(ctx); w.agent != nil {
		notes := w.notes
		if w.notes = nil; len(notes) > 0 {
			return w.agent.send(notes)
		}
		return nil
	}
	for first := true; ; first = false {
		client, err := w.env.Connect(ctx)
		if err != nil {
			return err
		}
		if w.agent, err = startAgent(ctx, client, w.env.Node.Python(), w.notes, w.log); err == nil {
			w.notes = nil
			return nil
		}
		// A connection that was there before may prove to be lost: another one is worth a try.
		if !first || client.Err() == nil || ctx.Err() != nil {
			return err
		}
	}
}

// call lets the agent do a request of the step.
func (w *work) call(ctx context.Context, t *task, op string, request map[string]any) Result {
	return w.ask(ctx, t, op, request, nil)
}

// ask is call for a request with an answer, which is decoded into v when it is OK.
func (w *work) ask(ctx context.Context, t *task, op string, request map[string]any, v any) Result {
	if err := w.ready(ctx); err != nil {
		return resultOf(ctx, err)
	}
	request["op"] = op
	request["bundle"] = w.env.Bundle.Dir()
	request["venv"] = w.env.Node.Venv()
	request["ok_codes"] = t.step.OKCodes
	if t.step.Host == Remote && t.step.Op == op { // and no question beside it
		request["audit"], w.audited = w.audit(t.step), true
		if token := w.env.Bundle.Token(); token != "" {
			request["token"], request["lease"] = token, lease.Hash(token)
		}
		if t.step == w.last {
			request["last"] = true // it ends by itself: nobody waits for the node once more
		}
	}
	if t.step.Timeout > 0 {
		request["timeout"] = t.step.Timeout.Seconds() // the node ends it by itself when the link is lost
	}
	f, err := w.agent.call(ctx, request, t.secret, t)
	if err != nil {
		return w.cut(ctx, err)
	}
	if f.Lost && ctx.Err() == nil {
		if *f.Status == Error { // the lock was ours when the step began
			return w.lostUnder(ctx, visible(f.Message))
		}
		if err := w.env.Bundle.Lost(ctx); err != nil { // who has it
			return resultOf(ctx, err)
		}
	}
	r := Result{Status: *f.Status, Message: visible(f.Message), Hint: visible(f.Hint), ExitCode: -1}
	if f.Lost {
		r.Err = bundle.ErrNotOurs
	}
	if f.Code != nil {
		r.ExitCode = *f.Code
	}
	if f.Trace != "" {
		t.trace(f.Trace)
	}
	if !f.Returned && (r.Status == Stopped || r.Status == TimedOut) || ctx.Err() != nil && r.Status != OK {
		return ended(ctx, r)
	}
	if v != nil && r.Status == OK {
		if err := json.Unmarshal(f.Data, v); err != nil {
			return resultOf(ctx, fmt.Errorf("the agent's answer to %s is not valid: %w", op, err))
		}
	}
	return r
}
