package main

import (
	"context"

	"github.com/spf13/cobra"

	"bundlefs/internal/journal"
)

type closeOptions struct{ forget, discard bool }

func newCloseCommand(a *app) *cobra.Command {
	var o closeOptions
	cmd := &cobra.Command{
		Use:   "close [NODE…]",
		Short: "barrier, unmount, remove the bundle on node and workstation",
		Long: `Close waits until everything is on the node, unmounts, and removes the bundle
on both sides, which unlocks the node. A mount that has died is mounted again
first, to send what is not on the node. While the node refuses a change nothing
is unmounted or removed. A bundle that is not, or no longer, ours is not
touched. When it was interrupted, close again.`,
		RunE: func(cmd *cobra.Command, args []string) error { return runClose(cmd.Context(), a, o, args) },
	}
	cmd.Flags().BoolVar(&o.forget, "forget", false, "unmount without waiting and forget the bundle; the node is not touched")
	cmd.Flags().BoolVar(&o.discard, "discard", false, "give up the changes that the node refuses, and tell which")
	cmd.MarkFlagsMutuallyExclusive("forget", "discard")
	return cmd
}

func runClose(ctx context.Context, a *app, o closeOptions, args []string) error {
	sel, err := a.nodesOrOpen(args)
	if err != nil {
		return err
	}
	return a.each(ctx, sel, func(s *session) error {
		if o.discard {
			if err := s.discard(ctx); err != nil {
				return err
			}
		}
		return s.end(ctx, o.forget)
	})
}

// discard gives up what the node refuses.
func (s *session) discard(ctx context.Context) error {
	given, err := s.bundle.Discard(ctx)
	for _, r := range given {
		s.app.ui.warn(s.node.Name, "", "given up: %s", r)
	}
	if err != nil || len(given) > 0 {
		s.app.ui.info(s.node.Name, "", "%d changes given up", len(given))
	}
	return err
}

// end closes the bundle, or forgets it.
func (s *session) end(ctx context.Context, forget bool) error {
	word, spool := "closed", ""
	e := s.event(journal.Closed) // of the lock that is given back
	var err error
	if forget {
		word = "forgotten"
		spool, err = s.bundle.Forget(ctx)
	} else {
		if _, open := s.bundle.State(); open {
			s.ahead(ctx) // the barrier and the unmounting take a while
		}
		err = s.bundle.Close(ctx)
		s.app.ui.progressEnd()
	}
	e.Status, e.Message = statusWord(err), word
	if err != nil {
		e.Message = err.Error()
	}
	s.app.note(e)
	if err != nil {
		return err
	}
	s.app.ui.info(s.node.Name, "", "%s: %s", word, s.bundle.Dir())
	if spool != "" {
		s.app.ui.warn(s.node.Name, "", "what was not sent to the node is kept in %s: remove it when it is not needed", spool)
	}
	return nil
}
