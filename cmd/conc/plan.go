package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
	"bundlefs/ops"
)

func newPlanCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "plan NODE [JOBS]",
		Short: "the ordered steps, with the exact command of each by hand",
		Args:  cobra.RangeArgs(1, 2),
		RunE:  func(_ *cobra.Command, args []string) error { return runPlan(a, args) },
	}
}

func runPlan(a *app, args []string) error {
	sel, err := a.nodes(args[:1])
	if err != nil {
		return err
	}
	list := deploy.Install
	if len(args) == 2 {
		list = args[1]
	}
	for i, n := range sel.nodes {
		s, err := a.newSession(sel.file, n)
		if err != nil {
			return err
		}
		steps, err := s.steps(list)
		if err != nil {
			return err
		}
		if i > 0 {
			a.ui.print("")
		}
		a.ui.print(fmt.Sprintf("%s: %s: %d steps", n.Name, list, len(steps)))
		for k, step := range steps {
			a.ui.print(fmt.Sprintf("%d. %s: %s", k+1, step.Name, stepText(step)))
			for line := range strings.SplitSeq(ops.Explain(step, *s.env()), "\n") {
				a.ui.print("       " + line)
			}
		}
		for _, l := range ops.Advice(context.Background(), s.env(), steps) {
			a.ui.warn(n.Name, l.Step, "%s (%s)", l.Text, l.Hint)
		}
	}
	return nil
}

// stepText is a step as it is written in deploy.ini, after substitution.
func stepText(s ops.Step) string {
	text := string(s.Host) + " " + s.Op
	if len(s.Args) > 0 {
		text += " " + remote.Quote(s.Args...)
	}
	return text
}

// steps gives the steps of a job list for the session's node.
func (s *session) steps(list string) ([]ops.Step, error) {
	jobs, err := s.node.Jobs(list)
	if err != nil {
		return nil, usagef(hintOf(err), "%w", err)
	}
	steps, err := ops.ParseAll(jobs)
	if err != nil {
		return nil, usagef(hintOf(err), "%w", err)
	}
	return steps, nil
}
