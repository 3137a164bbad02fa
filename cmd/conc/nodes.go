package main

import (
	"strings"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
)

type nodesOptions struct{ json bool }

func newNodesCommand(a *app) *cobra.Command {
	var o nodesOptions
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "list nodes, groups, and which bundles are open",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return runNodes(a, o) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "as JSON")
	return cmd
}

type nodeInfo struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Groups  []string `json:"groups"`
	Bundle  string   `json:"bundle"`
	Open    bool     `json:"open"`
}

func runNodes(a *app, o nodesOptions) error {
	f, err := a.load()
	if err != nil {
		return err
	}
	states, err := bundle.List(a.stateDir)
	if err != nil {
		a.ui.warn("", "", "%v", err)
	}
	open := map[string]bool{}
	for _, name := range openOf(f, states) {
		open[name] = true
	}
	list := []nodeInfo{}
	for _, n := range f.Nodes() {
		info := nodeInfo{Name: n.Name, Groups: n.Groups(), Bundle: n.Bundle(), Open: open[n.Name]}
		// Listing must not fail for a key that is not on this machine.
		if t, err := target(n); err == nil {
			info.Address = t.String()
		} else {
			info.Address = n.Host()
		}
		list = append(list, info)
	}
	if o.json {
		return a.ui.json(list)
	}
	rows := [][]string{{"NODE", "ADDRESS", "GROUPS", "BUNDLE", "OPEN"}}
	for _, n := range list {
		state := "-"
		if n.Open {
			state = "open"
		}
		rows = append(rows, []string{n.Name, n.Address, orDash(strings.Join(n.Groups, ",")), n.Bundle, state})
	}
	a.ui.table(rows)
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
