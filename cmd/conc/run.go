package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/journal"
	"bundlefs/ops"
)

type runOptions struct {
	from, to string
	resume   bool
	ask      bool // --step
	dryRun   bool
	json     bool
	// rehearsal: nothing is done as root.
	rehearsal bool
	sudo      sudoSource
}

func (o *runOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.from, "from", "", "begin with this `STEP`")
	cmd.Flags().StringVar(&o.to, "to", "", "end with this `STEP`")
	cmd.Flags().BoolVar(&o.json, "json", false, "one event a line, as JSON, on standard output")
	o.sudo.flags(cmd)
}

// haltFlags are those of the commands that work on an open bundle.
func (o *runOptions) haltFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.resume, "resume", false, "begin after the last step that was OK in the last run, unless the list was changed")
	cmd.Flags().BoolVar(&o.ask, "step", false, "ask before each step: run it, skip it, open a shell, or stop")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would run, and do nothing")
	cmd.MarkFlagsMutuallyExclusive("from", "resume")
}

func newRunCommand(a *app) *cobra.Command {
	var o runOptions
	var m manyOptions
	cmd := &cobra.Command{
		Use:   "run NODE JOBS",
		Short: "run another job list than install",
		Long:  "Run runs the job list [jobs:JOBS] as 'conc install' runs [jobs:install].\n\n" + haltText,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := a.nodes(args[:1])
			if err != nil {
				return err
			}
			return runJobs(cmd.Context(), a, &o, m, sel, args[1])
		},
	}
	o.flags(cmd)
	o.haltFlags(cmd)
	m.flags(cmd)
	return cmd
}

// env is what the steps work on.
func (s *session) env() *ops.Env {
	return &ops.Env{
		Node: s.node, Bundle: s.bundle, Connect: s.reach, Ahead: s.unasked,
		Dir: filepath.Dir(s.file.Path()), Log: s.app.ui.logger(), Verbose: s.app.verbose,
	}
}

// job is a job list for one node, ready to run.
type job struct {
	s        *session
	o        *runOptions
	list     string
	steps    []ops.Step // the whole list
	chosen   []ops.Step
	from, to string
	env      *ops.Env
}

// prepare finds out what is to run; nothing is done on the node.
func (s *session) prepare(o *runOptions, list string) (*job, error) {
	j := &job{s: s, o: o, list: list, from: o.from, to: o.to, env: s.env()}
	var err error
	if j.steps, err = s.steps(list); err != nil {
		return nil, err
	}
	if o.resume {
		if j.from, err = s.resumeFrom(list, j.steps); err != nil {
			return nil, err
		}
		s.app.ui.info(s.node.Name, "", "%s: goes on with %s", list, j.from)
	}
	if j.chosen, err = ops.Select(j.steps, j.from, j.to); err != nil {
		return nil, usagef(hintOf(err), "%s: %w", list, err)
	}
	s.private = slices.ContainsFunc(j.chosen, func(step ops.Step) bool { return step.NeedsSudo() })
	j.env.SudoPassword = func(ctx context.Context) ([]byte, error) { return o.sudo.password(ctx, s.node.User(), s.node.Name) }
	return j, nil
}

// run prepares and runs a job list.
func (s *session) run(ctx context.Context, o *runOptions, list string) (ops.Result, error) {
	j, err := s.prepare(o, list)
	if err != nil {
		return ops.Result{}, err
	}
	return j.run(ctx)
}

func (j *job) options() ops.Options {
	o := ops.Options{From: j.from, To: j.to, WithoutSudo: j.o.rehearsal}
	if j.o.ask {
		o.Before = j.before
	}
	return o
}

// ready tells why the steps cannot begin; nil when they can.
func (j *job) ready() error {
	s := j.s
	if err := s.openedElsewhere(); err != nil {
		return err
	}
	if !s.bundle.IsOpen() && !opens(j.chosen) {
		return &hintedError{fmt.Errorf("%s: bundle %s: %w", s.node.Name, s.dir, bundle.ErrNotOpen), "open it first: conc open " + s.node.Name}
	}
	return nil
}

// authorize has the sudo password asked for, where it is needed.
func (j *job) authorize(ctx context.Context) error {
	if r := ops.Authorize(ctx, j.env, j.steps, j.options()); r.Status != ops.OK {
		return &runError{j.s.node.Name, j.list, r}
	}
	return nil
}

// run runs the steps. The error is a *runError when one was not OK.
func (j *job) run(ctx context.Context) (ops.Result, error) {
	s := j.s
	defer j.env.Forget()
	release, err := s.bundle.Hold(ctx) // nobody else of this user meanwhile
	if err != nil {
		return ops.Result{}, err
	}
	defer release()
	if err := j.ready(); err != nil {
		return ops.Result{}, err
	}
	e := s.event(journal.RunStart)
	e.List, e.Run, e.Steps = j.list, rand.Text(), stepLines(j.steps)
	if len(j.chosen) > 0 {
		e.Step = j.chosen[0].Name
	}
	s.app.note(e)
	r := ops.Run(ctx, j.env, j.steps, j.options(), s.sink(j.list, e.Run, j.o.json))
	s.app.ui.progressEnd()
	e.Kind, e.Steps, e.Lock = journal.RunEnd, nil, journal.LockID(s.bundle.Token())
	e.Step, e.Status, e.Message, e.Next = r.Step, r.Status.String(), r.Message, r.Next
	s.app.note(e)
	if r.Status != ops.OK {
		return r, &runError{s.node.Name, j.list, r}
	}
	s.app.ui.info(s.node.Name, "", "%s: OK", j.list)
	return r, nil
}

// before asks the operator what to do with a step.
func (j *job) before(ctx context.Context, step ops.Step, index, total int) (ops.Choice, error) {
	ui := j.s.app.ui
	ui.info(j.s.node.Name, step.Name, "step %d of %d: %s", index, total, stepText(step))
	for line := range strings.SplitSeq(ops.Explain(step, *j.env), "\n") {
		ui.output(j.s.node.Name, step.Name, line)
	}
	for {
		answer, err := j.s.app.answer(ctx, j.s.node.Name+": "+step.Name+": [r]un, [s]kip, s[h]ell, s[t]op? ")
		if err != nil {
			return ops.Halt, err
		}
		switch answer {
		case "r", "run", "y", "yes", "":
			return ops.Go, nil
		case "s", "skip":
			return ops.Skip, nil
		case "t", "stop", "q", "quit", "n", "no":
			return ops.Halt, nil
		case "h", "shell":
			if _, err := j.s.shell(ctx, nil); err != nil {
				ui.warn(j.s.node.Name, step.Name, "%v", err)
			}
		}
	}
}

// opens tells whether a job list locks the node itself.
func opens(steps []ops.Step) bool {
	return slices.ContainsFunc(steps, func(s ops.Step) bool { return s.Op == "open" && s.Host == ops.Remote })
}
