package main

import (
	"context"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
)

func newSyncCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "sync [NODE…]",
		Short: "barrier: wait until everything that was written is on the node",
		RunE:  func(cmd *cobra.Command, args []string) error { return runSync(cmd.Context(), a, args) },
	}
}

func runSync(ctx context.Context, a *app, args []string) error {
	sel, err := a.nodesOrOpen(args)
	if err != nil {
		return err
	}
	return a.each(ctx, sel, func(s *session) error {
		if err := s.sync(ctx); err != nil {
			return err
		}
		a.ui.info(s.node.Name, "", "everything is on the node")
		return nil
	})
}

// sync is the barrier with a progress bar. The mount tells what is to go; the
// bar's end is the most that this was.
func (s *session) sync(ctx context.Context) error {
	var most int64
	defer s.app.ui.progressEnd()
	return s.bundle.Sync(ctx, func(p bundle.Progress) {
		most = max(most, p.Bytes)
		s.app.ui.progress(s.node.Name+": sync", most-p.Bytes, most, "bytes")
	})
}
