package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
	"bundlefs/ops"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type checkOptions struct{ json bool }

func newCheckCommand(a *app) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check NODE…",
		Short: "look whether a node and this workstation are fit for a deploy; changes nothing",
		Long: `Check connects to each NODE and tells what it finds there and here: the link,
host key and login, SFTP, Python, disk space, clock, sudo, who holds the bundle,
build tools on the node, FUSE and python3 on this workstation, and what the pip
steps of [jobs:install] will lack. Sudo is looked at when a step of any job list
needs it. Nothing is changed on the node. Each finding is OK, WARN or FAIL, with a
remedy.

Exit codes: 0 when nothing is worse than WARN, 1 FAIL, 3 when somebody else holds
the bundle, 4 when a node cannot be reached.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runCheck(cmd.Context(), a, o, args) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "one finding a line, as JSON")
	return cmd
}

// finding is one thing that check looked at.
type finding struct {
	Node   string `json:"node"`
	What   string `json:"what"`
	Level  string `json:"level"` // "OK", "WARN", "FAIL"
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// checking is the check of one node.
type checking struct {
	s    *session
	list []finding
	code int
}

// slowNodes is how many nodes are looked at side by side.
const slowNodes = 16

func runCheck(ctx context.Context, a *app, o checkOptions, args []string) error {
	sel, err := a.nodes(args)
	if err != nil {
		return err
	}
	checks := make([]*checking, len(sel.nodes))
	g, limited := errgroup.WithContext(ctx)
	g.SetLimit(slowNodes)
	for i, n := range sel.nodes {
		c := &checking{}
		checks[i] = c
		if c.s, err = a.newSession(sel.file, n); err != nil {
			return err
		}
		g.Go(func() error {
			defer c.s.close()
			c.all(limited)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	several := &severalErrors{count: len(checks)}
	rows := [][]string{{"NODE", "WHAT", "", "FOUND"}}
	for _, c := range checks {
		for _, f := range c.list {
			if o.json {
				if err := a.ui.event(f); err != nil {
					return err
				}
			}
			text := f.Text
			if f.Remedy != "" {
				text += "; " + f.Remedy
			}
			rows = append(rows, []string{f.Node, f.What, f.Level, text})
		}
		if c.code != exitOK {
			several.codes = append(several.codes, c.code)
		}
	}
	if !o.json {
		a.ui.table(rows)
	}
	if len(several.codes) > 0 {
		return several
	}
	return nil
}

func (c *checking) add(level, what, remedy, format string, args ...any) {
	c.list = append(c.list, finding{c.s.node.Name, what, level, fmt.Sprintf(format, args...), remedy})
	if level == "FAIL" {
		c.worst(exitFailed)
	}
}

func (c *checking) worst(code int) {
	if rank[code] > rank[c.code] {
		c.code = code
	}
}

func (c *checking) ok(what, format string, args ...any) { c.add("OK", what, "", format, args...) }

// all looks at everything, over one connection.
func (c *checking) all(ctx context.Context) {
	c.workstation(ctx)
	start := time.Now()
	client, err := c.s.connect(ctx)
	if err != nil {
		what := "reach"
		var key *remote.HostKeyError
		var login *remote.AuthError
		switch {
		case errors.As(err, &key):
			what = "host key"
		case errors.As(err, &login):
			what = "login"
		}
		c.add("FAIL", what, hintOf(err), "%v", err)
		c.worst(exitError)
		return
	}
	c.ok("reach", "%s@%s, logged in after %s; its host key is known", client.User(), client.HostPort(), time.Since(start).Round(time.Millisecond))
	c.lock(ctx, client)
	c.others(ctx)
	steps, err := c.s.steps(deploy.Install)
	if err != nil {
		c.add("FAIL", "deploy.ini", hintOf(err), "%v", err)
		return
	}
	need := c.sudoNeed()
	asked := time.Now()
	found, r := ops.Look(ctx, c.s.env(), len(need) > 0)
	if r.Status != ops.OK {
		c.add("FAIL", "python", r.Hint, "%s", r.Message)
		return
	}
	c.node(found, steps, need)
	c.clock(found, asked, time.Now())
	bytes, files := ops.DeliverySize(ctx, c.s.env(), steps)
	c.space(found, bytes, files)
	for _, l := range ops.Lacks(ctx, c.s.env(), steps, &found.Python) {
		level := "WARN"
		if l.Certain {
			level = "FAIL"
		}
		c.add(level, "artifacts", l.Hint, "step %s: %s", l.Step, l.Text)
	}
}

// others tells of other bundles on the node, and of a name that lets several be there.
func (c *checking) others(ctx context.Context) {
	if text := releaseInName(c.s.node); text != "" {
		c.add("WARN", "lock", "", "%s", text)
	}
	list, err := c.s.bundle.Others(ctx)
	if err != nil {
		c.add("WARN", "lock", hintOf(err), "%v", err)
	}
	for _, o := range list {
		c.add("WARN", "lock", "if it is of the same product, wait until it is closed", "another bundle of this user is open on the node: %s", o)
	}
}

// lock tells who holds the bundle, and with that whether SFTP works.
func (c *checking) lock(ctx context.Context, client *remote.Client) {
	h, err := c.s.bundle.Holder(ctx)
	if err != nil {
		c.add("FAIL", "SFTP", hintOf(err), "%v", err)
		return
	}
	node, err := client.SFTP(ctx)
	if err != nil {
		c.add("FAIL", "SFTP", hintOf(err), "%v", err)
		return
	}
	defer node.Close()
	var lacks []string
	for name, why := range map[string]string{"posix-rename@openssh.com": "renames over files are not atomic", "fsync@openssh.com": "a barrier cannot wait for the node's disk", "statvfs@openssh.com": "free space is not known"} {
		if _, ok := node.HasExtension(name); !ok {
			lacks = append(lacks, name+" ("+why+")")
		}
	}
	if slices.Sort(lacks); len(lacks) > 0 {
		c.add("WARN", "SFTP", "use the sftp-server of OpenSSH", "the server lacks %s", strings.Join(lacks, ", "))
	} else {
		c.ok("SFTP", "with atomic renames, fsync and free space")
	}
	switch {
	case !h.Found:
		c.ok("lock", "bundle %s is free", c.s.bundle.Dir())
	case h.Ours:
		c.ok("lock", "bundle %s is ours since %s", c.s.bundle.Dir(), h.Since.UTC().Format(time.RFC3339))
	default:
		who := h.Reason
		if h.Record != nil {
			who = h.Record.Who()
		}
		c.add("WARN", "lock", "ask them to close it; 'conc unlock "+c.s.node.Name+" --force' breaks the lock of somebody who is gone",
			"bundle %s is held by %s since %s", c.s.bundle.Dir(), who, h.Since.UTC().Format(time.RFC3339))
		c.worst(exitBlocked)
	}
}
