package mountprog

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// option is one word of -o.
type option struct {
	name string // as in the help; accepted in this case only, ssh_config words in any
	arg  string // what its value is called; "" for an option without one
	help string // "" for one that is accepted and has no effect
	set  func(m *mountConfig, value string) error
}

// options are all words of -o but the ssh_config words.
var options = []option{
	{"port", "PORT", "the port of the node's sshd", func(m *mountConfig, v string) error { return m.setPort(v) }},
	{"ro", "", "mount read-only", func(m *mountConfig, _ string) error { m.readOnly = true; return nil }},
	{"rw", "", "mount for reading and writing (default)", func(m *mountConfig, _ string) error { m.readOnly = false; return nil }},
	{"exclusive", "TOKEN", "be the only writer, as the owner record with this token in the folder says: changes are sent behind", func(m *mountConfig, v string) error { m.exclusive = v; return nonEmpty(v) }},
	{"spool_max", "BYTES", "how much may wait to be sent before writers are slowed down (4294967296); with exclusive", func(m *mountConfig, v string) error { return spoolMax(m, v) }},
	{"reconnect", "", "reconnect after the link was lost (always on)", ignore},
	{"max_conns", "N", "SFTP sessions to use at once (1 to 64)", func(m *mountConfig, v string) error { return number(&m.sessions, v, 1, 64) }},
	{"timeout", "SECONDS", "how long an operation waits for a lost link (30; 0: as long as it takes)", func(m *mountConfig, v string) error { return seconds(&m.timeout, v) }},
	{"uid", "UID", "show all files as this user's", func(m *mountConfig, v string) error { return id(&m.uid, v) }},
	{"gid", "GID", "show all files as this group's", func(m *mountConfig, v string) error { return id(&m.gid, v) }},
	{"umask", "MASK", "take these permission bits from what is shown (octal)", func(m *mountConfig, v string) error { return umask(&m.umask, v) }},
	{"allow_other", "", "let other users use the mount", func(m *mountConfig, _ string) error { m.allowOther = true; return nil }},
	{"allow_root", "", "let root use the mount", func(m *mountConfig, _ string) error { m.allowRoot = true; return nil }},
	{"default_permissions", "", "let the kernel check permissions", func(m *mountConfig, _ string) error { m.defaultPermissions = true; return nil }},
	{"entry_timeout", "SECONDS", "how long names are cached (1)", func(m *mountConfig, v string) error { return seconds(&m.entryTimeout, v) }},
	{"attr_timeout", "SECONDS", "how long attributes are cached (1)", func(m *mountConfig, v string) error { return seconds(&m.attrTimeout, v) }},
	{"negative_timeout", "SECONDS", "how long it is cached that a name is not there (0)", func(m *mountConfig, v string) error { return seconds(&m.negativeTimeout, v) }},
	{"dcache_timeout", "SECONDS", "sets entry_timeout and attr_timeout, unless they are given", func(m *mountConfig, v string) error { return seconds(&m.dcacheTimeout, v) }},
	{"dcache_stat_timeout", "SECONDS", "sets attr_timeout, unless it is given", func(m *mountConfig, v string) error { return seconds(&m.dcacheStatTimeout, v) }},
	{"dcache_link_timeout", "SECONDS", "sets entry_timeout, unless it is given", func(m *mountConfig, v string) error { return seconds(&m.dcacheLinkTimeout, v) }},
	{"dcache_dir_timeout", "SECONDS", "sets entry_timeout, unless it is given", func(m *mountConfig, v string) error { return seconds(&m.dcacheDirTimeout, v) }},
	{"fsname", "NAME", "the name shown in the table of mounts", func(m *mountConfig, v string) error { m.fsname = v; return nonEmpty(v) }},
	{"subtype", "NAME", "the type shown in the table of mounts is fuse.NAME", func(m *mountConfig, v string) error { m.subtype = v; return nonEmpty(v) }},
	{"nonempty", "", "mount even on a folder that is not empty", func(m *mountConfig, _ string) error { m.nonempty = true; return nil }},
	{"noexec", "", "let no program of the mount be started", func(m *mountConfig, _ string) error { m.noexec = true; return nil }},
	{"exec", "", "let programs of the mount be started (default)", func(m *mountConfig, _ string) error { m.noexec = false; return nil }},
	{"logfile", "FILE", "write the log there and not to syslog", func(m *mountConfig, v string) error { return path(&m.logfile, v) }},
	{"debug", "", "as -d", func(m *mountConfig, _ string) error { m.debug, m.foreground = true, true; return nil }},
	{"sshfs_debug", "", "log all requests", func(m *mountConfig, _ string) error { m.debug = true; return nil }},
	{"suid", "", "", refuse("the mount is always nosuid: the node's files could give root")},
	{"dev", "", "", refuse("the mount is always nodev: the node's files could give access to devices")},
	// What fstab and mount(8) add.
	{"nosuid", "", "", ignore}, {"nodev", "", "", ignore}, {"defaults", "", "", ignore}, {"_netdev", "", "", ignore},
	{"auto", "", "", ignore}, {"noauto", "", "", ignore}, {"nofail", "", "", ignore},
	{"user", "", "", ignore}, {"users", "", "", ignore}, {"owner", "", "", ignore}, {"nouser", "", "", ignore},
	{"sync", "", "", ignore}, {"async", "", "", ignore},
	// FUSE never updates access times itself.
	{"atime", "", "", ignore}, {"noatime", "", "", ignore}, {"relatime", "", "", ignore}, {"norelatime", "", "", ignore},
	{"diratime", "", "", ignore}, {"nodiratime", "", "", ignore}, {"strictatime", "", "", ignore}, {"lazytime", "", "", ignore},
}

// sshWords are the ssh_config words that package remote obeys.
var sshWords = []string{
	"AddressFamily", "BatchMode", "ConnectTimeout", "GlobalKnownHostsFile", "HashKnownHosts", "HostKeyAlias", "HostName",
	"IdentitiesOnly", "IdentityAgent", "IdentityFile", "KbdInteractiveAuthentication", "NumberOfPasswordPrompts",
	"PasswordAuthentication", "Port", "ProxyJump", "PubkeyAuthentication", "ServerAliveCountMax", "ServerAliveInterval",
	"StrictHostKeyChecking", "User", "UserKnownHostsFile",
}

// sshIgnored are ssh_config words without which the mount is as safe and as right.
var sshIgnored = []string{
	"CheckHostIP", "Compression", "ControlMaster", "ControlPath", "ControlPersist", "ForwardAgent", "ForwardX11",
	"LogLevel", "TCPKeepAlive", "VisualHostKey",
}

func ignore(*mountConfig, string) error { return nil }

func refuse(why string) func(*mountConfig, string) error {
	return func(*mountConfig, string) error { return fail("leave the option out", "%s", why) }
}

// setOptions applies one -o argument.
func (m *mountConfig) setOptions(list string) error {
	words, err := splitOptions(list)
	if err != nil {
		return fmt.Errorf("-o %s: %w", list, err)
	}
	for _, w := range words {
		if err := m.setOption(w); err != nil {
			return err
		}
	}
	return nil
}

// splitOptions splits at commas; a backslash takes the meaning from what follows it.
func splitOptions(list string) ([]string, error) {
	var words []string
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && i+1 == len(list):
			return nil, fail(`write \\ for a backslash`, "nothing follows the last backslash")
		case c == '\\':
			i++
			b.WriteByte(list[i])
		case c == ',':
			words = append(words, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	words = append(words, b.String())
	kept := words[:0]
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return kept, nil
}

func (m *mountConfig) setOption(word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	if strings.HasPrefix(name, "x-") || name == "comment" { // for systemd and other readers of fstab (mount(8))
		return nil
	}
	for _, o := range options {
		if o.name != name {
			continue
		}
		if err := o.apply(m, value, hasValue); err != nil {
			return fmt.Errorf("option %s: %w", word, err)
		}
		return nil
	}
	for _, w := range sshWords {
		if strings.EqualFold(w, name) {
			if err := m.setSSH(w, value); err != nil {
				return fmt.Errorf("option %s: %w", word, err)
			}
			return nil
		}
	}
	for _, w := range sshIgnored {
		if strings.EqualFold(w, name) {
			return nil
		}
	}
	return unknownOption(name)
}

func (o *option) apply(m *mountConfig, value string, hasValue bool) error {
	if o.arg == "" && hasValue {
		return fmt.Errorf("it takes no value")
	}
	if o.arg != "" && !hasValue {
		return fail(fmt.Sprintf("write %s=%s", o.name, o.arg), "it needs a value")
	}
	return o.set(m, value)
}

// setSSH sets an ssh_config word; what has a field of its own in remote.Target goes there.
func (m *mountConfig) setSSH(word, value string) error {
	if value == "" {
		return fail(fmt.Sprintf("write %s=VALUE", word), "it needs a value")
	}
	switch word {
	case "Port":
		return m.setPort(value)
	case "User":
		if m.source.user == "" {
			m.target.User = value
		}
	case "ProxyJump":
		m.target.Jump = value
	case "IdentityFile":
		if m.target.IdentityFile != "" {
			return fail("name further keys in an ssh_config file, given with -F", "only one IdentityFile can be given here")
		}
		return path(&m.target.IdentityFile, value)
	default:
		m.target.Options[word] = value
	}
	return nil
}

func (m *mountConfig) setPort(value string) error { return number(&m.target.Port, value, 1, 65535) }

func nonEmpty(v string) error {
	if v == "" {
		return fmt.Errorf("it needs a value")
	}
	return nil
}

func number(to *int, v string, low, high int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return fmt.Errorf("%q is not a number from %d to %d", v, low, high)
	}
	*to = n
	return nil
}

func id(to **uint32, v string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 1<<32-1 {
		return fail("id -u NAME tells a user's number, getent group NAME a group's", "%q is not a numeric id", v)
	}
	u := uint32(n)
	*to = &u
	return nil
}

func umask(to **uint32, v string) error {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is not an octal number from 0 to 777", v)
	}
	u := uint32(n)
	*to = &u
	return nil
}

// seconds reads a number of seconds, which may have a fraction.
func seconds(to **time.Duration, v string) error {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n >= 0 && n <= 1e9) {
		return fmt.Errorf("%q is not a number of seconds", v)
	}
	d := time.Duration(n * float64(time.Second))
	*to = &d
	return nil
}

func spoolMax(m *mountConfig, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of bytes", v)
	}
	m.spoolMax = n
	return nil
}

// path makes v absolute, since the program leaves its folder; package remote expands ~.
func path(to *string, v string) error {
	if err := nonEmpty(v); err != nil {
		return err
	}
	if !strings.HasPrefix(v, "~") {
		abs, err := filepath.Abs(v)
		if err != nil {
			return err
		}
		v = abs
	}
	*to = v
	return nil
}
