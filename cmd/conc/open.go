package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
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
		s.warnOfName()
		others := s.others(ctx)
		if err := s.open(ctx, o.message); err != nil {
			return err
		}
		for _, other := range <-others {
			s.app.ui.warn(s.node.Name, "", "another bundle of this user is open on the node: %s", other)
		}
		return nil
	})
}

// others looks for other bundles on the node while the own one is opened. Where that fails, opening
// tells why.
func (s *session) others(ctx context.Context) <-chan []bundle.Other {
	found := make(chan []bundle.Other, 1)
	go func() {
		list, err := s.bundle.Others(ctx)
		if err != nil {
			s.app.ui.logger().Debug("looking for other bundles", "node", s.node.Name, "error", err)
		}
		found <- list
	}()
	return found
}

// warnOfName tells of a bundle that is named after its release.
func (s *session) warnOfName() {
	if text := releaseInName(s.node); text != "" {
		s.app.ui.warn(s.node.Name, "", "%s", text)
	}
}

// words are the letters and digits between other signs.
func words(name string) []string {
	return strings.FieldsFunc(name, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
}

// releaseInName says why a bundle should not be named after its release; "" if it is not.
func releaseInName(n *deploy.Node) string {
	release, _ := n.Attr("release")
	if release == "" || !strings.Contains(n.Bundle(), release) || len(release) < 3 && !slices.Contains(words(n.Bundle()), release) {
		return ""
	}
	return fmt.Sprintf("%s: bundle %s has the release %s in its name, so it locks the node for that release only: "+
		"somebody with another release can deploy at the same time; name it after the product", n.Origin("bundle"), n.Bundle(), release)
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
