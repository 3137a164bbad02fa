package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newMountCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "mount [NODE…]",
		Short: "mount again a bundle that is ours, after a crash or a restart",
		Long: `Mount mounts a bundle of ours that is not mounted any more, since bundlefs or the
workstation went down. What was written into it and had not reached the node
is sent now. 'conc open' does the same.`,
		RunE: func(cmd *cobra.Command, args []string) error { return runMount(cmd.Context(), a, args) },
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
		a.ui.info(s.node.Name, "", "%s is mounted on %s%s", s.bundle.Dir(), s.bundle.MountPoint(), s.unsent(ctx))
		return nil
	})
}

// unsent tells, behind the words on a mount, what it has taken up of an earlier
// one; "" when that is nothing.
func (s *session) unsent(ctx context.Context) string {
	m := s.bundle.Unsent(ctx)
	if m == nil || m.Pending.Files == 0 && len(m.Refused) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s are being sent", pendingText(m))
}
