package mountprog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/remote"

	"github.com/spf13/pflag"
)

// command is what the arguments ask for.
type command struct {
	help, version bool
	ask           string // one of asks; "" is a mount
	json          bool
	prometheus    bool
	fake          bool         // check the arguments and mount nothing
	mountpoint    string       // of ask, as given
	paths         []string     // of discard and retry
	mount         *mountConfig // of a mount
}

// mountConfig is all that a mount is told. A nil pointer is an option that was not given.
type mountConfig struct {
	source     source
	mountpoint string // as given until serve makes it canonical
	target     remote.Target
	foreground bool
	debug      bool
	verbose    bool
	logfile    string   // absolute; "" is syslog
	logLevel   string   // "" is not given
	notes      []string // to be told when it mounts

	sshOptions    [][2]string // words of ssh_config with their values, as given
	sshCommand    []string    // the program that connects, with arguments; nil: package remote does
	compression   string      // "yes", "no", or "" when it is not given
	sftpServer    string      // "" is the subsystem sftp
	directPort    int         // 0: not given
	passive       bool
	inputEnded    sync.Once     // closes ended
	ended         chan struct{} // of passive: closed when standard input has ended
	passwordStdin bool
	sloppy        bool // unknown options are left out

	subdir, setuid   string
	uidFile, gidFile string // absolute

	lender lender // has the connections that package remote makes

	fs fs.Options // what goes there as it is

	readOnly, allowOther, allowRoot, defaultPermissions, nonempty, noexec, nomount bool

	uid, gid, umask                                     *uint32
	entryTimeout, attrTimeout, negativeTimeout, timeout *time.Duration
	sessions                                            int // 0: not given
	exclusive                                           string
	spoolMax                                            int64 // bytes; 0: not given
	cacheMax                                            int64 // bytes; 0: not given, -1: none
	fsname, subtype                                     string
}

// asks are the requests to a mount that runs, with what -h says about them.
var asks = []struct{ name, help string }{
	{"status", "tell how the mount is doing"},
	{"sync", "wait until everything written into the mount is on the node"},
	{"retry", "send again what the node has refused: all, or what is at or below [PATH…]"},
	{"discard", "give up what the node has refused: MOUNTPOINT PATH…, paths in the mount"},
	{"unmount", "sync, then unmount; clean up after a bundlefs that was killed"},
}

const usageHint = "bundlefs -h tells how it is used"

// flags makes the flag set; what they set is in the values that it returns.
func flags() (f *pflag.FlagSet, c *command, opts *[]string, port, config *string) {
	c = &command{mount: &mountConfig{ended: make(chan struct{}), target: remote.Target{Options: map[string]string{}}}}
	f = pflag.NewFlagSet("bundlefs", pflag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed by our caller
	f.SortFlags = false
	opts = f.StringArrayP("options", "o", nil, "mount `OPTIONS`, see below")
	port = f.StringP("port", "p", "", "the `PORT` of the node's sshd")
	config = f.StringP("config", "F", "", "an ssh_config `FILE` in place of ~/.ssh/config and /etc/ssh/ssh_config")
	f.BoolVarP(&c.mount.foreground, "foreground", "f", false, "stay in the foreground")
	f.BoolVarP(&c.mount.debug, "debug", "d", false, "log all requests to standard error; stays in the foreground")
	f.BoolVarP(&c.mount.verbose, "verbose", "v", false, "log what happens to the link, too")
	f.BoolVarP(&c.mount.fs.SingleThreaded, "single", "s", false, "answer one request after the other (in shared mode)")
	f.BoolP("compress", "C", false, "the same as -o compression=yes")
	f.BoolP("protocol1", "1", false, "the same as -o ssh_protocol=1, which there is no more")
	f.BoolVar(&c.json, "json", false, "print JSON (status, sync, retry, discard, unmount)")
	f.BoolVar(&c.prometheus, "prometheus", false, "print status in the text format of Prometheus")
	f.BoolVar(&c.fake, "fake", false, "")
	f.BoolVar(&c.mount.sloppy, "sloppy", false, "")
	for _, hidden := range []string{"fake", "sloppy", "protocol1"} {
		f.MarkHidden(hidden)
	}
	f.BoolVarP(&c.help, "help", "h", false, "print this help")
	f.BoolVarP(&c.version, "version", "V", false, "print the version")
	return f, c, opts, port, config
}

// flagHint is the advice for a flag that is none: perhaps it is one of ssh.
func flagHint(err error) string {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		switch unknown.GetSpecifiedName() {
		case "4":
			return "write it as -o AddressFamily=inet"
		case "6":
			return "write it as -o AddressFamily=inet6"
		case "i":
			return "write it as -o IdentityFile=FILE"
		case "J":
			return "write it as -o ProxyJump=HOST"
		}
	}
	return usageHint
}

func parseArgs(args []string) (*command, error) {
	f, c, opts, port, config := flags()
	if err := f.Parse(args); err != nil {
		return nil, fail(flagHint(err), "%w", err)
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
	if c.json || c.prometheus {
		return nil, fail(usageHint, "--json and --prometheus are for what asks a mount that runs")
	}
	if f.Changed("protocol1") {
		return nil, fail("leave -1 out", "version 1 of SSH is not supported")
	}
	if f.Changed("compress") {
		c.mount.compression = "yes"
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
		if fl.Name != "json" && (fl.Name != "prometheus" || name != "status") {
			err = fail(usageHint, "%s does not take %s", name, dashed(fl))
		}
	})
	switch {
	case err != nil:
		return err
	case name == "discard" && len(rest) < 2:
		return fail("bundlefs status tells what the node has refused", "discard needs a mount point and what to give up")
	case name == "retry" && len(rest) == 0, name != "discard" && name != "retry" && len(rest) != 1:
		return fail(usageHint, "%s needs one mount point", name)
	}
	c.ask, c.mountpoint, c.paths = name, rest[0], rest[1:]
	return nil
}

// dashed is a flag as it is written.
func dashed(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

func (m *mountConfig) complete(src, mountpoint string, opts []string, port, config string) error {
	m.foreground = m.foreground || m.debug
	if m.mountpoint = mountpoint; mountpoint == "" {
		return fail(usageHint, "the mount point is empty")
	}
	for _, o := range opts {
		if err := m.setOptions(o); err != nil {
			return err
		}
	}
	var err error
	if m.source, err = parseSource(src); err != nil && !(m.passive && m.source.host == "") {
		return err
	}
	m.target.Host, m.target.User = m.source.host, m.source.user
	if m.target.Dir, err = os.Getwd(); err != nil {
		return fail("go to a folder that is there", "find the current folder: %w", err)
	}
	if port != "" {
		if err := m.setPort(port); err != nil {
			return fail("write it as -p PORT", "-p: %w", err)
		}
	}
	if config == "none" {
		m.target.Config = config
	} else if config != "" {
		if err := path(&m.target.Config, config); err != nil {
			return fmt.Errorf("-F: %w", err)
		}
	}
	if err := m.obeySSH(); err != nil {
		return err
	}
	if err := m.agree(); err != nil {
		return err
	}
	m.foreground = m.foreground || m.passive || m.debug && m.logfile == "" // where else would the log go
	if m.fsname == "" {
		m.fsname = src
	}
	return nil
}

// agree finds options that do not go together.
func (m *mountConfig) agree() error {
	var ways []string
	for _, w := range []struct {
		name  string
		given bool
	}{{"ssh_command", m.sshCommand != nil}, {"directport", m.directPort != 0}, {"passive", m.passive}} {
		if w.given {
			ways = append(ways, w.name)
		}
	}
	switch {
	case len(ways) > 1:
		return fail("leave out all but one", "%s exclude each other", strings.Join(ways, " and "))
	case m.allowOther && m.allowRoot:
		return fail("allow_other lets root in, too", "allow_other and allow_root exclude each other")
	case m.passwordStdin && len(ways) > 0:
		return fail("leave password_stdin out", "with %s, bundlefs is not the one who logs in", ways[0])
	case m.sftpServer != "" && len(ways) > 0 && ways[0] != "ssh_command":
		return fail("leave sftp_server out", "with %s, the server is there already", ways[0])
	case m.passive && m.sessions > 1:
		return fail("leave max_conns out", "with passive there is one connection only")
	case m.exclusive == inputToken && (m.passive || m.passwordStdin):
		return fail("give the token as its value", "exclusive=%s reads standard input, which is taken", inputToken)
	case m.fs.DelayConnect && m.exclusive != "":
		return fail("leave delay_connect out", "in exclusive mode the owner record is read before anything is mounted")
	case m.fs.IDMap == "file" && m.uidFile == "" && m.gidFile == "":
		return fail("name a file with -o uidfile=FILE or -o gidfile=FILE", "idmap=file needs a file")
	case m.fs.IDMap != "file" && (m.uidFile != "" || m.gidFile != "" || m.fs.NoMap != ""):
		return fail("add -o idmap=file, or leave the others out", "uidfile, gidfile and nomap are for idmap=file")
	case m.fs.FollowSymlinks && m.exclusive != "":
		return fail("leave follow_symlinks out", "in exclusive mode a link is a link, and not followed on the node")
	case m.exclusive == "" && m.nomount:
		return fail("give the token too: -o exclusive=TOKEN,nomount", "nomount is for exclusive mode only")
	case m.fs.FollowSymlinks && m.fs.TransformSymlinks:
		return fail("leave transform_symlinks out", "with follow_symlinks there are no symlinks to transform")
	}
	if m.compression == "yes" && m.sshCommand == nil {
		m.notes = append(m.notes, "what is sent is not compressed: only -o ssh_command=ssh can do that")
	}
	return nil
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
	b.WriteString("\nOptions of -o, separated by commas; \\, is a comma within a value")
	for _, group := range groups {
		fmt.Fprintf(&b, "\n\n%s\n", group)
		var lines []string
		for _, o := range options {
			if o.group != group {
				continue
			}
			lines = append(lines, hang(fmt.Sprintf("  %-28s ", o.form()), o.help))
		}
		b.WriteString(strings.Join(lines, "\n"))
	}
	b.WriteString("\n\nWords of ssh_config, in any case, as WORD=VALUE; with ssh_command all of them\n")
	b.WriteString(hang("  ", strings.Join(sshWords, " ")) + "\n")
	b.WriteString("\nWords that begin with x- are left to those who read fstab, as systemd.\n")
	return b.String()
}

// hang breaks a text into lines below each other, behind a head.
func hang(head, text string) string {
	const width = 100
	indent := len(head)
	if indent > 31 {
		head, indent = strings.TrimRight(head, " ")+"\n"+strings.Repeat(" ", 31), 31
	}
	var b strings.Builder
	b.WriteString(head)
	column := indent
	for i, word := range strings.Fields(text) {
		if i > 0 && column+1+len(word) > width {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
