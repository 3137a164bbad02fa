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

type planOptions struct{ format string }

func newPlanCommand(a *app) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan NODE [JOBS]",
		Short: "the ordered steps, with the exact command of each by hand",
		Long: `Plan shows what a job list would do, and does nothing. The formats are text; json, a
step a line; sh, a script that does the same as conc with ssh, scp and python3 alone;
and rst, a section of a manual for each step.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error { return runPlan(a, o, args) },
	}
	cmd.Flags().StringVar(&o.format, "format", "text", "text, json, sh or rst")
	return cmd
}

func runPlan(a *app, o planOptions, args []string) error {
	sel, err := a.nodes(args[:1])
	if err != nil {
		return err
	}
	show, ok := map[string]func(*app, *job) error{"text": planText, "json": planJSON, "sh": planScript, "rst": planManual}[o.format]
	if !ok {
		return usagef("the formats are text, json, sh and rst", "--format %s: there is no such format", o.format)
	}
	if o.format == "sh" && len(sel.nodes) > 1 {
		return usagef("name one node", "a script is for one node")
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
		j, err := s.prepare(&runOptions{}, list)
		if err != nil {
			return err
		}
		if i > 0 && o.format != "json" {
			a.ui.print("")
		}
		if err := show(a, j); err != nil {
			return err
		}
		for _, l := range ops.Advice(context.Background(), s.env(), j.steps) {
			a.ui.warn(n.Name, l.Step, "%s (%s)", l.Text, l.Hint)
		}
	}
	return nil
}

func planText(a *app, j *job) error {
	a.ui.print(fmt.Sprintf("%s: %s: %d steps", j.s.node.Name, j.list, len(j.steps)))
	for k, step := range j.steps {
		printStep(a, j.env, step, k+1)
	}
	return nil
}

// printStep shows a step with its command by hand.
func printStep(a *app, env *ops.Env, step ops.Step, index int) {
	a.ui.print(fmt.Sprintf("%d. %s: %s", index, step.Name, stepText(step)))
	for line := range strings.SplitSeq(ops.Explain(step, *env), "\n") {
		a.ui.print("       " + line)
	}
}

// plannedStep is a step as JSON.
type plannedStep struct {
	Node    string   `json:"node"`
	List    string   `json:"list"`
	Index   int      `json:"index"` // from 1
	Step    string   `json:"step"`
	Host    string   `json:"host"`
	Op      string   `json:"op"`
	Args    []string `json:"args"`
	Timeout float64  `json:"timeout,omitempty"` // seconds
	OKCodes []int    `json:"ok_codes"`
	Sudo    bool     `json:"sudo,omitempty"` // it needs the password of sudo
	Command string   `json:"command"`        // by hand
	File    string   `json:"file"`
	Line    int      `json:"line"`
}

func planned(env *ops.Env, s ops.Step, index int) plannedStep {
	return plannedStep{Node: env.Node.Name, List: s.List, Index: index, Step: s.Name, Host: string(s.Host), Op: s.Op,
		Args: append([]string{}, s.Args...), Timeout: s.Timeout.Seconds(), OKCodes: s.OKCodes, Sudo: s.NeedsSudo(),
		Command: ops.Explain(s, *env), File: s.File, Line: s.Line}
}

func planJSON(a *app, j *job) error {
	for k, step := range j.steps {
		if err := a.ui.event(planned(j.env, step, k+1)); err != nil {
			return err
		}
	}
	return nil
}

func planScript(a *app, j *job) error {
	a.ui.print(ops.Script(j.env, j.list, j.steps))
	return nil
}

func planManual(a *app, j *job) error {
	a.ui.print(manualOf(j)...)
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
