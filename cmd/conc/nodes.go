package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"bundlefs/internal/deploy"
)

type nodesOptions struct{ json, remote bool }

func newNodesCommand(a *app) *cobra.Command {
	var o nodesOptions
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "list nodes, groups, and which bundles are open",
		Long: `Nodes lists what deploy.ini has, and which bundles this workstation has open.
With --remote each node is asked who holds its bundle, also when that is somebody
else; a node that does not answer is told in its line, and the exit code is 4.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runNodes(cmd.Context(), a, o) },
	}
	cmd.Flags().BoolVar(&o.remote, "remote", false, "ask each node who holds its bundle")
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
	// With --remote: who holds the bundle on the node, "" when nobody does, or why that is not known.
	Holder string `json:"holder,omitempty"`
	Error  string `json:"error,omitempty"`
}

func runNodes(ctx context.Context, a *app, o nodesOptions) error {
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
	several := &severalErrors{count: len(list)}
	if o.remote {
		if err := a.askHolders(ctx, f, nodes, list); err != nil {
			return err
		}
		for i := range list {
			if list[i].Error != "" {
				several.codes = append(several.codes, exitError)
			}
		}
	}
	if o.json {
		if err := a.ui.json(list); err != nil || len(several.codes) == 0 {
			return err
		}
		return several
	}
	rows := [][]string{{"NODE", "ADDRESS", "GROUPS", "BUNDLE", "OPEN"}}
	if o.remote {
		rows[0] = append(rows[0], "HELD BY")
	}
	for _, n := range list {
		state := "-"
		if n.Open {
			state = "open"
		}
		if n.As != "" {
			state = "opened as " + n.As
		}
		row := []string{n.Name, orDash(n.Address), orDash(strings.Join(n.Groups, ",")), orDash(n.Bundle), state}
		if o.remote {
			held := orDash(n.Holder)
			if n.Error != "" {
				held = "unknown: " + n.Error
			}
			row = append(row, held)
		}
		rows = append(rows, row)
	}
	a.ui.table(rows)
	if len(several.codes) > 0 {
		return several
	}
	return nil
}

// askHolders asks the nodes who holds their bundles, side by side, and fills it in.
func (a *app) askHolders(ctx context.Context, f *deploy.File, nodes []*deploy.Node, list []nodeInfo) error {
	g := new(errgroup.Group)
	g.SetLimit(slowNodes)
	for i, n := range nodes {
		if _, err := f.Node(n.Name); err != nil {
			list[i].Error = "it is not in deploy.ini any more"
			continue
		}
		s, err := a.newSession(f, n)
		if err != nil {
			list[i].Error = err.Error()
			continue
		}
		g.Go(func() error {
			defer s.close()
			h, err := s.bundle.Holder(ctx)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				list[i].Error = err.Error()
			case h.Found:
				list[i].Holder = holderText(h)
			}
			return nil
		})
	}
	return g.Wait()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
