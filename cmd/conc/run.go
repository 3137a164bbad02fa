package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/journal"
	"bundlefs/ops"
)

type runOptions struct {
	from, to string
	json     bool
}

func (o *runOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.from, "from", "", "begin with this `STEP`")
	cmd.Flags().StringVar(&o.to, "to", "", "end with this `STEP`")
	cmd.Flags().BoolVar(&o.json, "json", false, "one event a line, as JSON, on standard output")
}

func newRunCommand(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run NODE JOBS",
		Short: "run another job list than install",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := a.nodes(args[:1])
			if err != nil {
				return err
			}
			return runJobs(cmd.Context(), a, o, sel, args[1])
		},
	}
	o.flags(cmd)
	return cmd
}

// runJobs runs a job list on nodes, one after the other, and does not go on to
// the next when one is not OK.
func runJobs(ctx context.Context, a *app, o runOptions, sel *selection, list string) error {
	for _, n := range sel.nodes {
		s, err := a.newSession(sel.file, n)
		if err != nil {
			return err
		}
		_, err = s.run(ctx, o, list)
		s.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// env is what the steps work on.
func (s *session) env() *ops.Env {
	return &ops.Env{Node: s.node, Bundle: s.bundle, Connect: s.connect, Dir: filepath.Dir(s.file.Path()), Log: s.app.ui.logger()}
}

// run runs a job list. The error is a *runError when a step was not OK.
func (s *session) run(ctx context.Context, o runOptions, list string) (ops.Result, error) {
	steps, err := s.steps(list)
	if err != nil {
		return ops.Result{}, err
	}
	chosen, err := ops.Select(steps, o.from, o.to)
	if err != nil {
		return ops.Result{}, usagef(hintOf(err), "%s: %w", list, err)
	}
	release, err := s.bundle.Hold(ctx) // nobody else of this user meanwhile
	if err != nil {
		return ops.Result{}, err
	}
	defer release()
	if !s.bundle.IsOpen() && !opens(chosen) {
		return ops.Result{}, &hintedError{fmt.Errorf("%s: bundle %s: %w", s.node.Name, s.bundle.Dir(), bundle.ErrNotOpen),
			"open it first: conc open " + s.node.Name}
	}
	e := s.event(journal.RunStart)
	e.List = list
	s.app.note(e)
	r := ops.Run(ctx, s.env(), steps, ops.Options{From: o.from, To: o.to}, s.sink(list, o.json))
	s.app.ui.progressEnd()
	e = s.event(journal.RunEnd)
	e.List, e.Step, e.Status, e.Message = list, r.Step, r.Status.String(), r.Message
	s.app.note(e)
	if r.Status != ops.OK {
		return r, &runError{s.node.Name, list, r}
	}
	s.app.ui.info(s.node.Name, "", "%s: OK", list)
	return r, nil
}

// opens tells whether a job list locks the node itself.
func opens(steps []ops.Step) bool {
	return slices.ContainsFunc(steps, func(s ops.Step) bool { return s.Op == "open" && s.Host == ops.Remote })
}
