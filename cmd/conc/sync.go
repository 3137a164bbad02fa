package main

import (
	"context"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/progress"
)

func newSyncCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "sync [NODE…]",
		Short: "barrier: wait until everything that was written is on the node",
		Long: `Sync waits until everything that was written into the mount is on the node. What
the node has refused is tried once more; what it refuses again is named, with
the cause, and kept (exit code 1).`,
		RunE: func(cmd *cobra.Command, args []string) error { return runSync(cmd.Context(), a, args) },
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

// sync is the barrier with a progress bar.
func (s *session) sync(ctx context.Context) error {
	shown := progress.Barrier{What: s.node.Name + ": sync"}
	defer s.app.ui.progressEnd()
	return s.bundle.Sync(ctx, func(p bundle.Progress) { s.app.ui.progress(shown.Left(p.Files, p.Bytes)) })
}
