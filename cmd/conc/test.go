package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/junit"
	"bundlefs/ops"
)

type testOptions struct {
	junit string
	json  bool
	quiet bool
	sudo  sudoSource
}

func newTestCommand(a *app) *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test NODE [MODULE…]",
		Short: "run the unittest cases of a node",
		Long: `Test runs unittest cases with the Python of the node's virtual environment. They
are those of the modules, classes or methods that are named, else those of the
test steps on the node in its job lists, else those that its attribute nodetests names.

Nothing is locked or mounted, and no bundle need be open: test is fit for cron.
NODE may be @GROUP or @all.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runTest(cmd.Context(), a, &o, args) },
	}
	cmd.Flags().StringVar(&o.junit, "junit", "", "write a report for a CI to this XML `FILE`")
	cmd.Flags().BoolVar(&o.json, "json", false, "one event a line, as JSON, on standard output")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "tell only of what is not OK")
	o.sudo.flags(cmd)
	return cmd
}

func runTest(ctx context.Context, a *app, o *testOptions, args []string) error {
	defer o.sudo.wipe()
	sel, err := a.nodes(args[:1])
	if err != nil {
		return err
	}
	if o.quiet {
		a.ui.level = slog.LevelWarn
	}
	var suites []junit.Suite
	err = a.each(ctx, sel, func(s *session) error {
		k := &testSink{sink: s.sink("test", "", o.json), suite: junit.Suite{Name: s.node.Name, Start: time.Now()}}
		err := s.test(ctx, k, &o.sudo, args[1:])
		var run *runError
		if err != nil && !(k.bad && errors.As(err, &run) && run.result.Status == ops.Failed) {
			k.suite.Cases = append(k.suite.Cases, junit.Case{ID: "conc test", Error: &junit.Problem{Message: err.Error(), Text: hintOf(err)}})
		}
		suites = append(suites, k.suite)
		return err
	})
	if o.junit != "" {
		err = errors.Join(err, junit.Write(o.junit, suites))
	}
	return err
}

// test runs the test steps of a node, all of them; the error is the first that
// is not OK.
func (s *session) test(ctx context.Context, k *testSink, sudo *sudoSource, modules []string) error {
	steps, err := s.testSteps(modules)
	if err != nil {
		return err
	}
	s.private = slices.ContainsFunc(steps, func(step ops.Step) bool { return step.NeedsSudo() })
	env := s.env()
	env.Bundle = untouched{env.Bundle}
	env.SudoPassword = func(ctx context.Context) ([]byte, error) { return sudo.password(ctx, s.node.User(), s.node.Name) }
	defer env.Forget()
	var failed error
	for _, step := range steps {
		r := ops.Run(ctx, env, []ops.Step{step}, ops.Options{}, k)
		s.app.ui.progressEnd()
		r.Resume = "" // there is nothing to go on with
		if r.Status != ops.OK && failed == nil {
			failed = &runError{s.node.Name, "test", r}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// testSteps are the tests that are meant.
func (s *session) testSteps(modules []string) ([]ops.Step, error) {
	var jobs []deploy.Step
	if len(modules) == 0 {
		for _, list := range s.file.JobLists() {
			steps, err := s.node.Jobs(list)
			if err != nil {
				continue // a list that this node has not got the attributes for
			}
			for _, step := range steps {
				same := func(other deploy.Step) bool { return slices.Equal(other.Args, step.Args) }
				if step.Host == deploy.Remote && step.Op == "test" && !slices.ContainsFunc(jobs, same) {
					jobs = append(jobs, step)
				}
			}
		}
		value, _ := s.node.Attr("nodetests")
		modules = strings.Fields(value)
	}
	if len(jobs) == 0 {
		if len(modules) == 0 {
			return nil, usagef("name modules, or set 'nodetests = MODULE…' in deploy.ini", "%s: there are no tests", s.node.Name)
		}
		jobs = []deploy.Step{{List: "test", Name: "nodetests", Host: deploy.Remote, Op: "test", Args: append([]string{"--"}, modules...), File: s.file.Path()}}
	}
	steps := make([]ops.Step, 0, len(jobs))
	for _, job := range jobs {
		step, err := ops.Parse(job)
		if err != nil {
			return nil, usagef(hintOf(err), "%s: %w", s.node.Name, err)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// untouched is a bundle that tests leave alone: whether it is open or mounted
// here does not matter, and there is no barrier.
type untouched struct{ ops.Bundle }

// Status tells that nothing is mounted.
func (untouched) Status(context.Context) (*bundle.Status, error) { return nil, bundle.ErrNotOpen }

// testSink shows results of tests and keeps them for the report. Tests change
// nothing: they are not noted in the journal.
type testSink struct {
	*sink
	suite junit.Suite
	bad   bool // the report has a test that is not OK
}

var _ ops.TestSink = (*testSink)(nil)

// StepStarted does nothing: the results say enough.
func (k *testSink) StepStarted(ops.Step, int, int) {}

// TestEnded shows a result.
func (k *testSink) TestEnded(step ops.Step, r ops.TestResult) {
	if !r.Subtest {
		k.keep(r)
	}
	ui := k.s.app.ui
	if k.json {
		ui.event(struct {
			Time  time.Time `json:"time"`
			Event string    `json:"event"`
			Node  string    `json:"node"`
			ops.TestResult
		}{time.Now().UTC(), "test", k.s.node.Name, r})
		return
	}
	level := slog.LevelInfo
	if r.Status.Bad() {
		level = slog.LevelError
	}
	for _, line := range r.Lines() {
		ui.say(level, k.s.node.Name, "", "%s", line)
	}
}

func (k *testSink) keep(r ops.TestResult) {
	c := junit.Case{ID: r.ID, Elapsed: r.Elapsed, Output: strings.Join(r.Output, "\n")}
	problem := &junit.Problem{Message: r.Message, Text: strings.Join(r.Trace, "\n")}
	switch r.Status {
	case ops.TestFailed, ops.TestUnexpectedSuccess:
		c.Failure = problem
	case ops.TestError:
		c.Error = problem
	case ops.TestSkipped:
		c.Skipped = problem
	}
	k.bad = k.bad || r.Status.Bad()
	k.suite.Cases = append(k.suite.Cases, c)
}

// StepEnded shows the summary; that of a step that is not OK is the error of the command.
func (k *testSink) StepEnded(step ops.Step, r ops.Result) {
	if k.json {
		k.emit(step, jsonEvent{Event: "step end", Status: r.Status.String(), Message: r.Message, Hint: r.Hint, Command: r.Command, Elapsed: r.Elapsed})
		return
	}
	if r.Status == ops.OK {
		k.s.app.ui.info(k.s.node.Name, "", "%s", r.Message)
	}
}
