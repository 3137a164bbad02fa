package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
	"bundlefs/ops"
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
steps of [jobs:install] will lack. Nothing is changed on the node. Each finding
is OK, WARN or FAIL, with a remedy.

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
	steps, err := c.s.steps(deploy.Install)
	if err != nil {
		c.add("FAIL", "deploy.ini", hintOf(err), "%v", err)
		return
	}
	sudo := slices.ContainsFunc(steps, func(s ops.Step) bool { return s.NeedsSudo() })
	asked := time.Now()
	found, r := ops.Look(ctx, c.s.env(), sudo)
	if r.Status != ops.OK {
		c.add("FAIL", "python", r.Hint, "%s", r.Message)
		return
	}
	c.python(found, steps)
	c.clock(found, asked, time.Now())
	c.space(ctx, found, steps)
	if sudo {
		c.sudo(found)
	}
	if tools := append(slices.Clone(found.Tools), found.Headers); strings.Join(tools, "") != "" {
		c.add("WARN", "build tools", "a node that is deployed to needs none: wheel steps build on the workstation", "on the node: %s", strings.TrimSpace(strings.Join(tools, " ")))
	} else {
		c.ok("build tools", "none on the node, and none are needed")
	}
	for _, l := range ops.Lacks(ctx, c.s.env(), steps, &found.Python) {
		level := "WARN"
		if l.Certain {
			level = "FAIL"
		}
		c.add(level, "artifacts", l.Hint, "step %s: %s", l.Step, l.Text)
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

func (c *checking) python(found *ops.Survey, steps []ops.Step) {
	c.ok("python", "%s is Python %s", found.Executable, found.Python.Version)
	has := func(op, option string) bool {
		return slices.ContainsFunc(steps, func(s ops.Step) bool {
			return s.Op == op && (option == "" || slices.Contains(s.Args, option))
		})
	}
	if has("venv", "") && !slices.Contains(found.Modules, "venv") {
		c.add("FAIL", "python", "install python3-venv on the node", "it has no module venv, which the venv step needs")
	}
	if has("venv", "--with-pip") && !slices.Contains(found.Modules, "ensurepip") {
		c.add("FAIL", "python", "install python3-venv on the node, or leave --with-pip out and deliver a wheel of pip", "it has no module ensurepip, which venv --with-pip needs")
	}
	if slices.ContainsFunc(steps, func(s ops.Step) bool {
		return s.Op == "venv" && !slices.Contains(s.Args, "--keep") && !slices.Contains(s.Args, "--clear")
	}) && found.Venv == "folder" && found.VenvPython {
		c.add("WARN", "venv", "give each release a venv of its own, or the step --keep or --clear", "there is a virtual environment at %s already", c.s.node.Venv())
	}
}

// maxSkew is how far the clocks may be apart before it is told.
const maxSkew = 5 * time.Second

func (c *checking) clock(found *ops.Survey, asked, answered time.Time) {
	node := time.UnixMicro(int64(found.Time * 1e6))
	var skew time.Duration
	switch {
	case node.Before(asked):
		skew = node.Sub(asked)
	case node.After(answered):
		skew = node.Sub(answered)
	}
	if skew.Abs() > maxSkew {
		c.add("WARN", "clock", "set the clock of the node or of this workstation", "the node's clock is %s off", skew.Round(time.Second))
		return
	}
	c.ok("clock", "agrees within %s", max(answered.Sub(asked), time.Second).Round(time.Second))
}

// spare is what is wanted on a disk beside the artifacts.
const spare = 16 << 20

func (c *checking) space(ctx context.Context, found *ops.Survey, steps []ops.Step) {
	bytes, files := ops.DeliverySize(ctx, c.s.env(), steps)
	for _, name := range []string{"home", "venv", "tmp"} {
		s, ok := found.Space[name]
		if !ok {
			continue
		}
		// Unpacked and compiled, what is installed takes several times its size.
		need := map[string]int64{"home": bytes + spare, "venv": 6*bytes + spare, "tmp": spare}[name]
		switch {
		case !s.Writable:
			c.add("FAIL", "disk", "mount it writable, or mend its owner and mode", "%s (%s) is not writable", s.Path, name)
		case s.Free < uint64(need):
			c.add("FAIL", "disk", "make room there", "%s (%s) has %d MiB free, about %d MiB are needed", s.Path, name, s.Free>>20, need>>20)
		case s.AllInodes > 0 && s.Inodes < uint64(files)+1000:
			c.add("FAIL", "disk", "remove files there", "%s (%s) has room for %d more files only", s.Path, name, s.Inodes)
		case s.NoExec && name != "tmp":
			c.add("FAIL", "disk", "mount it without noexec, or put the venv elsewhere", "%s (%s) is mounted noexec: a virtual environment cannot be run there", s.Path, name)
		default:
			c.ok("disk", "%s (%s) has %d MiB free", s.Path, name, s.Free>>20)
		}
	}
}

func (c *checking) sudo(found *ops.Survey) {
	switch found.Sudo.State {
	case "free", "root":
		c.ok("sudo", "needs no password")
	case "asks":
		c.add("OK", "sudo", "", "asks for a password, or is not allowed to this user: conc asks for it before the first step")
	case "timeout":
		c.add("WARN", "sudo", "look at sudo's name look-ups and PAM on the node", "sudo does not answer")
	default:
		c.add("FAIL", "sudo", "install sudo on the node, or leave the sudo steps out", "a step needs sudo, which is not on the node")
	}
}

// workstation looks at this side.
func (c *checking) workstation(ctx context.Context) {
	if c.s.node.MountPoint() != bundle.None {
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		switch {
		case err != nil:
			c.add("FAIL", "FUSE", "load the module (modprobe fuse) and open the device to this user, or set 'mount = none'", "%v", err)
		default:
			f.Close()
			if _, err := exec.LookPath("fusermount3"); err != nil && os.Geteuid() != 0 {
				c.add("FAIL", "FUSE", "install fuse3 on this workstation", "fusermount3 is not on the PATH")
			} else {
				c.ok("FUSE", "/dev/fuse can be used")
			}
		}
	}
	steps, err := c.s.steps(deploy.Install)
	if err != nil {
		return // told later
	}
	if slices.ContainsFunc(steps, func(s ops.Step) bool { return s.Op == "wheel" }) {
		if path, err := exec.LookPath("python3"); err != nil {
			c.add("FAIL", "workstation", "install python3 here", "a wheel step needs python3, which is not on the PATH")
		} else {
			c.ok("workstation", "%s builds wheels", path)
		}
	}
	bytes, _ := ops.DeliverySize(ctx, c.s.env(), steps)
	var st unix.Statfs_t
	if dir, err := os.UserHomeDir(); err == nil && unix.Statfs(dir, &st) == nil {
		free := st.Bavail * uint64(st.Bsize)
		if free < uint64(bytes+spare) {
			c.add("FAIL", "workstation", "make room there", "%s has %d MiB free, the spool may need %d MiB", dir, free>>20, (bytes+spare)>>20)
		} else {
			c.ok("workstation", "%s has %d MiB free for the spool", dir, free>>20)
		}
	}
}
