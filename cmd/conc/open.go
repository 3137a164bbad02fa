package main

import (
	"context"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/journal"
)

type openOptions struct{ message string }

func newOpenCommand(a *app) *cobra.Command {
	var o openOptions
	cmd := &cobra.Command{
		Use:   "open NODE…",
		Short: "lock a node: make the bundle on it and mount it here",
		Long: `Open makes the bundle on the node, which locks it, and mounts it here. When
somebody holds it already, open is BLOCKED and says who. An opening of ours
that was interrupted is continued, and a bundle of ours whose mount has died is
mounted again, and what was not sent of it is sent.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runOpen(cmd.Context(), a, o, args) },
	}
	cmd.Flags().StringVarP(&o.message, "message", "m", "", "`WORDS` for those who find the bundle locked")
	return cmd
}

func runOpen(ctx context.Context, a *app, o openOptions, args []string) error {
	sel, err := a.nodes(args)
	if err != nil {
		return err
	}
	return a.each(ctx, sel, func(s *session) error {
		if err := s.openedElsewhere(); err != nil {
			return err
		}
		if err := s.configure(s.node.MountPoint(), o.message); err != nil {
			return err
		}
		return s.open(ctx, o.message)
	})
}

func (s *session) open(ctx context.Context, message string) error {
	err := s.bundle.Open(ctx)
	e := s.event(journal.Opened)
	e.Status, e.Message = statusWord(err), message
	if err != nil {
		e.Message = err.Error()
	}
	s.app.note(e)
	if err != nil {
		return err
	}
	if at := s.bundle.MountPoint(); at != bundle.None {
		s.app.ui.info(s.node.Name, "", "open: %s is mounted on %s%s", s.bundle.Dir(), at, s.unsent(ctx))
	} else {
		s.app.ui.info(s.node.Name, "", "open: %s", s.bundle.Dir())
	}
	return nil
}
