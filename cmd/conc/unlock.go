package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/journal"
)

type unlockOptions struct {
	force bool
	leave []int // process numbers on the node
}

func newUnlockCommand(a *app) *cobra.Command {
	var o unlockOptions
	cmd := &cobra.Command{
		Use:   "unlock NODE",
		Short: "break a lock that is somebody else's, after showing whose it is",
		Long: `Unlock shows who holds the bundle on the node. With --force it breaks the
lock: the bundle is renamed on the node, not removed, so nothing that its
holder delivered is lost, and its mount notices that the lock is gone. Steps and
shells of the holder that run on the node are ended before, with all that they
started. What cannot be ended, as what sudo runs for another user, is named with its
process number, and the bundle stays locked until it has ended or --leave names it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runUnlock(cmd.Context(), a, o, args) },
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "break it")
	cmd.Flags().IntSliceVar(&o.leave, "leave", nil, "let the holder's process `PID` on the node run on; can be given several times")
	return cmd
}

func runUnlock(ctx context.Context, a *app, o unlockOptions, args []string) error {
	if len(o.leave) > 0 && !o.force {
		return usagef("add --force to break the lock", "--leave is for --force")
	}
	sel, err := a.nodes(args)
	if err != nil {
		return err
	}
	return a.each(ctx, sel, func(s *session) error { return s.unlock(ctx, o) })
}

func (s *session) unlock(ctx context.Context, o unlockOptions) error {
	h, err := s.bundle.Holder(ctx)
	if err != nil {
		return err
	}
	name, dir := s.node.Name, s.bundle.Dir()
	if !h.Found {
		s.app.ui.info(name, "", "nobody holds %s", dir)
		return nil
	}
	s.app.ui.info(name, "", "%s is held by %s", dir, holderText(h))
	if h.Ours {
		return &hintedError{fmt.Errorf("%s: not unlocked: %w: this workstation holds it", name, bundle.ErrBlocked), "end it with 'conc close " + name + "'"}
	}
	if !o.force {
		return &hintedError{fmt.Errorf("%s: not unlocked: %w", name, bundle.ErrBlocked),
			"talk to the holder; 'conc unlock " + name + " --force' breaks the lock"}
	}
	aside, err := s.bundle.Break(ctx, h, o.leave...)
	if err != nil {
		return err
	}
	e := s.event(journal.Unlocked)
	e.Status, e.Message = "OK", "was held by "+holderText(h)
	s.app.note(e)
	if aside != "" {
		s.app.ui.info(name, "", "unlocked; what was in it is on the node as %s", aside)
	} else {
		s.app.ui.info(name, "", "unlocked")
	}
	return nil
}

func holderText(h *bundle.Holder) string {
	text := "somebody unknown: " + h.Reason
	if h.Record != nil {
		text = h.Record.Who()
		if h.Ours {
			text = "this workstation: " + text
		}
		if h.Record.Message != "" {
			text += " (" + h.Record.Message + ")"
		}
	}
	if !h.Since.IsZero() {
		text += ", since " + h.Since.UTC().Format(time.RFC3339)
	}
	return text
}
