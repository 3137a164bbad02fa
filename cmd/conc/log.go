package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"bundlefs/internal/journal"
	"bundlefs/internal/proc"
)

type logOptions struct {
	json   bool
	output bool
}

func newLogCommand(a *app) *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:   "log [NODE…]",
		Short: "what was run, when, by whom, how each step ended",
		Long:  "Log shows what was run from this workstation by this user; with a deploy.ini, only what belongs to it.",
		RunE:  func(_ *cobra.Command, args []string) error { return runLog(a, o, args) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "one event a line, as JSON")
	cmd.Flags().BoolVar(&o.output, "output", false, "also the last lines that each step wrote")
	return cmd
}

// ended tells whether the end of a step is among the events that came after its start.
func ended(after []journal.Event, start *journal.Event) bool {
	return slices.ContainsFunc(after, func(e journal.Event) bool {
		return e.Kind == journal.End && e.Run == start.Run && e.Node == start.Node && e.Step == start.Step
	})
}

// notEnded tells how it is with a step of which only the start was noted.
func notEnded(start *journal.Event) (status, message string) {
	me, _ := proc.Read(os.Getpid())
	host, _ := os.Hostname()
	if p, ok := proc.Read(start.PID); ok && p.Name == me.Name && host == start.Host {
		return "running", fmt.Sprintf("process %d", start.PID)
	}
	return "UNKNOWN", fmt.Sprintf("interrupted: conc (process %d) ended before the step did", start.PID)
}

func runLog(a *app, o logOptions, args []string) error {
	deployFile := ""
	names := map[string]bool{}
	if len(args) > 0 {
		sel, err := a.nodes(args)
		if err != nil {
			return err
		}
		deployFile = sel.file.Path()
		for _, n := range sel.nodes {
			names[n.Name] = true
		}
	} else if f, err := a.load(); err == nil {
		deployFile = f.Path()
	} else if a.file != "" {
		return err
	}
	ours := ofFile(deployFile)
	events, err := a.journal.Read(func(e *journal.Event) bool {
		return (deployFile == "" || ours(e.Deploy)) && (len(names) == 0 || names[e.Node])
	})
	if err != nil {
		return err
	}
	if o.json {
		for _, e := range events {
			if err := a.ui.event(e); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for i, e := range events {
		if e.Kind == journal.Start {
			if ended(events[i+1:], &e) { // its end tells all of it
				continue
			}
			e.Status, e.Message = notEnded(&e)
		}
		what := string(e.Kind)
		switch {
		case e.Kind == journal.RunStart || e.Kind == journal.RunEnd:
			what += " " + e.List
		case e.Step != "":
			what = e.List + " " + e.Step + ": " + e.Op
		}
		rows = append(rows, []string{e.Time.Local().Format(time.DateTime), e.User + "@" + e.Host, e.Node, orDash(e.Status), what, e.Message})
		if o.output {
			for _, line := range e.Output {
				rows = append(rows, []string{"", "", "", "", "| " + line, ""})
			}
		}
	}
	a.ui.table(rows)
	return nil
}
