package main

import (
	"context"

	"github.com/spf13/cobra"

	"bundlefs/internal/journal"
)

type closeOptions struct{ forget bool }

func newCloseCommand(a *app) *cobra.Command {
	var o closeOptions
	cmd := &cobra.Command{
		Use:   "close [NODE…]",
		Short: "barrier, unmount, remove the bundle on node and workstation",
		Long: `Close waits until everything is on the node, unmounts, and removes the bundle
on both sides, which unlocks the node. A bundle that is not, or no longer, ours
is not touched. When it was interrupted, close again.`,
		RunE: func(cmd *cobra.Command, args []string) error { return runClose(cmd.Context(), a, o, args) },
	}
	cmd.Flags().BoolVar(&o.forget, "forget", false, "unmount without waiting and forget the bundle; the node is not touched")
	return cmd
}

func runClose(ctx context.Context, a *app, o closeOptions, args []string) error {
	sel, err := a.nodesOrOpen(args)
	if err != nil {
		return err
	}
	return a.each(ctx, sel, func(s *session) error { return s.end(ctx, o.forget) })
}

// end closes the bundle, or forgets it.
func (s *session) end(ctx context.Context, forget bool) error {
	do, word := s.bundle.Close, "closed"
	if forget {
		do, word = s.bundle.Forget, "forgotten"
	}
	err := do(ctx)
	e := s.event(journal.Closed)
	e.Status, e.Message = statusWord(err), word
	if err != nil {
		e.Message = err.Error()
	}
	s.app.note(e)
	if err != nil {
		return err
	}
	s.app.ui.info(s.node.Name, "", "%s: %s", word, s.bundle.Dir())
	return nil
}
