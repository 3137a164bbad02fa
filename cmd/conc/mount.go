package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newMountCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "mount [NODE…]",
		Short: "mount again a bundle that is ours, after a crash or a restart",
		RunE:  func(cmd *cobra.Command, args []string) error { return runMount(cmd.Context(), a, args) },
	}
}

func runMount(ctx context.Context, a *app, args []string) error {
	sel, err := a.nodesOrOpen(args)
	if err != nil {
		return err
	}
	return a.each(ctx, sel, func(s *session) error {
		if err := s.bundle.Mount(ctx); err != nil {
			return err
		}
		a.ui.info(s.node.Name, "", "%s is mounted on %s", s.bundle.Dir(), s.bundle.MountPoint())
		return nil
	})
}
