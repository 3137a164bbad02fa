package main

import (
	"github.com/spf13/cobra"

	"bundlefs/internal/deploy"
)

type showOptions struct{ origin, json bool }

func newShowCommand(a *app) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show NODE [KEY]",
		Short: "show a node's attributes as they are after merging and substitution",
		Args:  cobra.RangeArgs(1, 2),
		RunE:  func(_ *cobra.Command, args []string) error { return runShow(a, o, args) },
	}
	cmd.Flags().BoolVar(&o.origin, "origin", false, "tell where each value was written")
	cmd.Flags().BoolVar(&o.json, "json", false, "as JSON")
	return cmd
}

type attribute struct {
	Value  string  `json:"value"`
	Origin *origin `json:"origin,omitempty"`
}

type origin struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Section string `json:"section"`
	Key     string `json:"key"`
}

func runShow(a *app, o showOptions, args []string) error {
	f, err := a.load()
	if err != nil {
		return err
	}
	n, err := f.Node(args[0])
	if err != nil {
		return usagef(hintOf(err), "%w", err)
	}
	keys := n.Keys()
	if len(args) == 2 {
		if _, ok := n.Attr(args[1]); !ok {
			return usagef("'conc show "+n.Name+"' lists its attributes", "%s has no attribute %q", n.Name, args[1])
		}
		keys = args[1:]
	}
	switch {
	case o.json:
		return a.ui.json(attributes(n, keys, o.origin))
	case o.origin:
		var rows [][]string
		for _, k := range keys {
			v, _ := n.Attr(k)
			rows = append(rows, []string{k + " = " + v, place(n.Origin(k))})
		}
		a.ui.table(rows)
	case len(args) == 2:
		v, _ := n.Attr(args[1])
		a.ui.print(v)
	default:
		for _, k := range keys {
			v, _ := n.Attr(k)
			a.ui.print(k + " = " + v)
		}
	}
	return nil
}

func attributes(n *deploy.Node, keys []string, origins bool) map[string]attribute {
	all := map[string]attribute{}
	for _, k := range keys {
		at := attribute{}
		at.Value, _ = n.Attr(k)
		if origins {
			p := n.Origin(k)
			at.Origin = &origin{p.File, p.Line, p.Section, p.Key}
		}
		all[k] = at
	}
	return all
}

// place is the origin without the key, which stands beside it already.
func place(o deploy.Origin) string {
	o.Key = ""
	return o.String()
}
