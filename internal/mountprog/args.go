package mountprog

import (
	"bundlefs/internal/remote"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// command is what the arguments ask for.
type command struct {
	help, version bool
	ask           string // one of asks; "" is a mount
	json          bool
	mountpoint    string       // of ask, as given
	paths         []string     // of discard
	mount         *mountConfig // of a mount
}

// mountConfig is all that a mount is told. A nil pointer is an option that was not given.
type mountConfig struct {
	source     source
	mountpoint string // as given until serve makes it canonical
	target     remote.Target
	foreground bool
	debug      bool
	logfile    string // absolute; "" is syslog

	readOnly, allowOther, allowRoot, defaultPermissions, nonempty, noexec bool

	uid, gid, umask                                                       *uint32
	entryTimeout, attrTimeout, negativeTimeout, timeout                   *time.Duration
	dcacheTimeout, dcacheStatTimeout, dcacheLinkTimeout, dcacheDirTimeout *time.Duration
	sessions                                                              int // 0: not given
	exclusive                                                             string
	spoolMax                                                              int64 // bytes; 0: not given
	fsname, subtype                                                       string
}

// asks are the requests to a mount that runs, with what -h says about them.
var asks = []struct{ name, help string }{
	{"status", "tell how the mount is doing"},
	{"sync", "wait until everything written into the mount is on the node"},
	{"retry", "send again what the node has refused"},
	{"discard", "give up what the node has refused: MOUNTPOINT PATH…, paths in the mount"},
	{"unmount", "sync, then unmount; clean up after a bundlefs that was killed"},
}

const usageHint = "bundlefs -h tells how it is used"

// flags makes the flag set; what they set is in the values that it returns.
func flags() (f *pflag.FlagSet, c *command, opts *[]string, port, config *string) {
	c = &command{mount: &mountConfig{target: remote.Target{Options: map[string]string{}}}}
	f = pflag.NewFlagSet("bundlefs", pflag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed by our caller
	f.SortFlags = false
	opts = f.StringArrayP("options", "o", nil, "mount `OPTIONS`, see below")
	port = f.StringP("port", "p", "", "the `PORT` of the node's sshd")
	config = f.StringP("config", "F", "", "an ssh_config `FILE` in place of ~/.ssh/config and /etc/ssh/ssh_config")
	f.BoolVarP(&c.mount.foreground, "foreground", "f", false, "stay in the foreground")
	f.BoolVarP(&c.mount.debug, "debug", "d", false, "log all requests to standard error; stays in the foreground")
	f.BoolVar(&c.json, "json", false, "print JSON (status, sync, retry, discard, unmount)")
	f.BoolVarP(&c.help, "help", "h", false, "print this help")
	f.BoolVarP(&c.version, "version", "V", false, "print the version")
	return f, c, opts, port, config
}

func parseArgs(args []string) (*command, error) {
	f, c, opts, port, config := flags()
	if err := f.Parse(args); err != nil {
		return nil, fail(usageHint, "%w", err)
	}
	if c.help || c.version {
		return c, nil
	}
	rest := f.Args()
	if len(rest) > 0 {
		for _, a := range asks {
			if rest[0] == a.name {
				return c, c.askArgs(a.name, rest[1:], f)
			}
		}
	}
	if c.json {
		return nil, fail(usageHint, "--json is for what asks a mount that runs")
	}
	switch {
	case len(rest) == 0:
		return nil, fail(usageHint, "what to mount and where are missing")
	case len(rest) == 1 && !strings.Contains(rest[0], ":"):
		_, err := parseSource(rest[0])
		return nil, err
	case len(rest) == 1:
		return nil, fail(usageHint, "the mount point is missing")
	case len(rest) > 2:
		return nil, fail(usageHint, "too many arguments: %q", rest[2])
	}
	return c, c.mount.complete(rest[0], rest[1], *opts, *port, *config)
}

func (c *command) askArgs(name string, rest []string, f *pflag.FlagSet) error {
	var err error
	f.Visit(func(fl *pflag.Flag) {
		if fl.Name != "json" {
			err = fail(usageHint, "%s does not take -%s", name, fl.Shorthand)
		}
	})
	switch {
	case err != nil:
		return err
	case name == "discard" && len(rest) < 2:
		return fail("bundlefs status tells what the node has refused", "discard needs a mount point and what to give up")
	case name != "discard" && len(rest) != 1:
		return fail(usageHint, "%s needs one mount point", name)
	}
	c.ask, c.mountpoint, c.paths = name, rest[0], rest[1:]
	return nil
}

func (m *mountConfig) complete(src, mountpoint string, opts []string, port, config string) error {
	m.foreground = m.foreground || m.debug
	var err error
	if m.source, err = parseSource(src); err != nil {
		return err
	}
	m.target.Host, m.target.User = m.source.host, m.source.user
	if m.mountpoint = mountpoint; mountpoint == "" {
		return fail(usageHint, "the mount point is empty")
	}
	for _, o := range opts {
		if err := m.setOptions(o); err != nil {
			return err
		}
	}
	if port != "" {
		if err := m.setPort(port); err != nil {
			return fmt.Errorf("-p: %w", err)
		}
	}
	if config == "none" {
		m.target.Config = config
	} else if config != "" {
		if err := path(&m.target.Config, config); err != nil {
			return fmt.Errorf("-F: %w", err)
		}
	}
	m.foreground = m.foreground || m.debug && m.logfile == "" // sshfs_debug: where else would the log go
	if m.allowOther && m.allowRoot {
		return errors.New("allow_other and allow_root exclude each other")
	}
	if m.fsname == "" {
		m.fsname = src
	}
	m.applyDcache()
	return nil
}

// applyDcache gives sshfs's options of the folder cache their place: its timeouts are those of
// names and attributes here. What is said more exactly wins.
func (m *mountConfig) applyDcache() {
	first := func(to **time.Duration, from ...*time.Duration) {
		for _, d := range from {
			if *to == nil {
				*to = d
			}
		}
	}
	first(&m.attrTimeout, m.dcacheStatTimeout, m.dcacheTimeout)
	first(&m.entryTimeout, m.dcacheDirTimeout, m.dcacheLinkTimeout, m.dcacheTimeout)
}

// usage is the text of -h, made from the tables.
func usage() string {
	var b strings.Builder
	b.WriteString("usage: bundlefs [user@]host:[dir] MOUNTPOINT [-o OPTION,…] [-p PORT] [-F CONFIG] [-f] [-d]\n")
	for _, a := range asks {
		fmt.Fprintf(&b, "   or: bundlefs %-7s MOUNTPOINT [--json]   %s\n", a.name, a.help)
	}
	f, _, _, _, _ := flags()
	b.WriteString("\nMounts a folder of a node over SSH. An IPv6 address is written in brackets: [::1]:dir.\n\nFlags\n")
	b.WriteString(f.FlagUsages())
	b.WriteString("\nOptions of -o, separated by commas; \\, is a comma within a value\n")
	for _, o := range options {
		if o.help == "" {
			continue
		}
		name := o.name
		if o.arg != "" {
			name += "=" + o.arg
		}
		fmt.Fprintf(&b, "  %-28s %s\n", name, o.help)
	}
	b.WriteString("\nWords of ssh_config, in any case, as WORD=VALUE\n")
	line := " "
	for _, w := range sshWords {
		if len(line)+1+len(w) > 78 {
			b.WriteString(line + "\n")
			line = " "
		}
		line += " " + w
	}
	b.WriteString(line + "\n")
	b.WriteString("\nOptions that fstab adds (_netdev, noauto, user, nofail, x-systemd.…, noatime …) have no effect.\n")
	return b.String()
}
