package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
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
	As      string   `json:"as,omitempty"` // the bundle that is open, when it is not that of deploy.ini any more
}

func runNodes(a *app, o nodesOptions) error {
	f, err := a.load()
	if err != nil {
		return err
	}
	list := []nodeInfo{}
	nodes := f.Nodes()
	for _, n := range openOf(f, a.states()) {
		if !slices.Contains(nodes, n) { // not in deploy.ini any more
			nodes = append(nodes, n)
		}
	}
	for _, n := range nodes {
		info := nodeInfo{Name: n.Name, Address: address(n), Groups: n.Groups(), Bundle: n.Bundle()}
		if st := a.openState(f, n); st != nil {
			if info.Open = true; !isNow(st, n) {
				info.As = st.Dir + " at " + st.Target
			}
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
		if n.As != "" {
			state = "opened as " + n.As
		}
		rows = append(rows, []string{n.Name, orDash(n.Address), orDash(strings.Join(n.Groups, ",")), orDash(n.Bundle), state})
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
