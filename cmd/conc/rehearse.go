package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bundlefs/internal/deploy"
	"bundlefs/internal/journal"
	"bundlefs/internal/node"
	"bundlefs/ops"
)

func newRehearseCommand(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "rehearse NODE [JOBS]",
		Short: "the whole job list against a throwaway node inside this process",
		Long: `Rehearse runs a job list as it would run on NODE, but on a throwaway node of
its own on this machine: it locks and mounts a bundle there, runs all steps,
closes the bundle and removes everything. Steps that need sudo are skipped. What the last step wrote last is
printed on standard output.`,
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
	stage, err := newStage(a, f, n)
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	defer func() { err = errors.Join(err, stage.close()) }()
	r, err := stage.play(ctx, o, list)
	if err != nil {
		return err
	}
	if !o.json {
		a.ui.print(r.Output...)
	}
	return nil
}

// stage is a throwaway node, with a throwaway place on the workstation for the
// bundle, its state and its mount.
type stage struct {
	session *session
	node    *node.Node
	dir     string
}

func newStage(a *app, f *deploy.File, n *deploy.Node) (_ *stage, err error) {
	g := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.node, err = node.Start(); err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp("", "conc-rehearse-"); err != nil {
		return nil, err
	}
	// What is rehearsed leaves no trace in the operator's own state and journal.
	own := *a
	own.stateDir = filepath.Join(g.dir, "state")
	own.journal = journal.New(own.stateDir)
	own.cacheDir = filepath.Join(g.dir, "cache")
	g.session = &session{app: &own, file: f, node: n, target: g.node.Target(), dir: n.Bundle()}
	return g, g.session.configure(filepath.Join(g.dir, "mount"), "rehearsal")
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
			err = errors.Join(err, s.end(context.WithoutCancel(ctx), false))
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

func (g *stage) close() error {
	var errs []error
	if g.session != nil {
		g.session.close()
	}
	if g.node != nil {
		errs = append(errs, g.node.Close())
	}
	if g.dir != "" {
		errs = append(errs, g.remove())
	}
	return errors.Join(errs...)
}

// remove removes the throwaway place, but never what is mounted in it.
func (g *stage) remove() error {
	if st, ok := g.session.bundle.State(); ok {
		return fmt.Errorf("rehearse: the bundle could not be closed: %s is left", st.MountPoint)
	}
	return os.RemoveAll(g.dir)
}
