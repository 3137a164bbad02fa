package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bundlefs/internal/deploy"
	"bundlefs/ops"
)

func newRehearseCommand(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "rehearse NODE [JOBS]",
		Short: "the whole job list against a throwaway node inside this process",
		Long: `Rehearse runs a job list as it would run on NODE, but on a throwaway node of
its own on this machine: it locks and mounts a bundle there, runs all steps,
closes the bundle and removes everything, also what a step has left running. Steps
that need sudo are skipped. What the last step wrote last is printed on standard output.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return runRehearse(cmd.Context(), a, &o, args) },
	}
	o.flags(cmd)
	o.rehearsal = true
	return cmd
}

func runRehearse(ctx context.Context, a *app, o *runOptions, args []string) (err error) {
	f, err := a.load()
	if err != nil {
		return err
	}
	n, err := f.Node(args[0])
	if err != nil {
		return usagef(hintOf(err), "%w", err)
	}
	list := deploy.Install
	if len(args) == 2 {
		list = args[1]
	}
	stage, err := newStage(ctx, a, f, n)
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	defer func() { err = errors.Join(err, stage.close(ctx)) }()
	r, err := stage.play(ctx, o, list)
	if err != nil {
		return err
	}
	if !o.json {
		a.ui.print(r.Output...)
	}
	return nil
}

// play opens the bundle unless the job list does, runs the list, and closes
// the bundle unless the list did.
func (g *stage) play(ctx context.Context, o *runOptions, list string) (r ops.Result, err error) {
	s := g.session
	steps, err := s.steps(list)
	if err != nil {
		return r, err
	}
	s.app.ui.info(s.node.Name, "", "rehearsing %s on a throwaway node", list)
	if !opens(steps) {
		if err := s.open(ctx, "rehearsal"); err != nil {
			return r, err
		}
	}
	defer func() {
		if _, ok := s.bundle.State(); ok {
			if cerr := s.end(context.WithoutCancel(ctx), false); cerr != nil {
				err = errors.Join(err, &hintedError{fmt.Errorf("the bundle cannot be closed: %w", cerr),
					"it would be the same on " + s.node.Name + ": the steps have to leave the bundle so that it can be closed"})
			}
		}
	}()
	r, err = s.run(ctx, o, list)
	var run *runError
	if errors.As(err, &run) {
		// The bundle is closed after a rehearsal: there is nothing to go on with.
		run.result.Resume, run.result.Command = "", ""
		if len(r.Output) > 0 && s.app.ui.terminal {
			run.result.Message += ": " + strings.TrimSpace(r.Output[len(r.Output)-1])
		}
	}
	return r, err
}
