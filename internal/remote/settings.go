package remote

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Defaults where neither the target nor a file says anything. OpenSSH has no
// keepalive and no timeout by default; a mount and an unattended deploy need both.
const (
	defaultPort        = 22
	defaultTimeout     = 15 * time.Second
	defaultSilence     = 30 * time.Second
	defaultAlive       = 15 * time.Second
	defaultAliveMax    = 3
	defaultPrompts     = 3
	defaultKnownHosts  = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
	defaultGlobalHosts = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
	maxConfigSeconds   = 10 * 365 * 24 * 3600
	strictAsk          = "ask"
	strictYes          = "yes"
	strictAcceptNew    = "accept-new"
	agentFromEnv       = "SSH_AUTH_SOCK"
)

// settings is a target with all that ssh_config says about it.
type settings struct {
	alias string // the host as asked for
	host  string // the name or address to connect to
	port  int
	user  string
	home  string
	dir   string // where relative names of files begin, "" for the current folder

	identities     []identity
	identitiesOnly bool
	agentSocket    string // "" for none

	knownHosts   []string // of the user, the first is where a new key is written
	globalHosts  []string
	strict       string
	hashHosts    bool
	hostKeyAlias string
	revoked      string   // a file of keys that no host may have, "" for none
	hostKeyAlgos []string // what a host may prove its key by; nil: what is supported

	jump        string // "" connects directly
	family      string // "tcp", "tcp4" or "tcp6"
	bind        string // local address to connect from, "" for any
	algorithms  ssh.Config
	timeout     time.Duration
	silence     time.Duration // see Target.Timeout
	alive       time.Duration // 0 sends no keepalives
	aliveMax    int
	batch       bool
	pubkeyAuth  bool
	passAuth    bool
	kbdAuth     bool
	passPrompts int

	notes []string // what Notes tells
}

// identity is a private key file that may be used.
type identity struct {
	path     string
	explicit bool // named by the target or a file, not a default
}

// knownName is what the host is called in known_hosts.
func (s *settings) knownName() string {
	if s.hostKeyAlias != "" {
		return strings.ToLower(s.hostKeyAlias)
	}
	return knownHostsName(s.host, s.port)
}

// resolve reads the files and applies the target's own values over them.
func resolve(t Target, log *slog.Logger) (*settings, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	home, err := os.UserHomeDir()
	local, uerr := user.Current()
	if err != nil {
		if uerr != nil {
			return nil, &ConfigError{Msg: "the home folder is not known", Fix: "set HOME", Err: err}
		}
		home = local.HomeDir
	}
	localUser := os.Getenv("USER")
	if uerr == nil {
		localUser = local.Username
	}
	w := &words{alias: t.Host, localUser: localUser, home: home, log: log, first: map[string]origin{}}
	if t.User != "" {
		w.set("User", origin{val: t.User})
	}
	if t.Port != 0 {
		w.set("Port", origin{val: strconv.Itoa(t.Port)})
	}
	if t.Jump != "" {
		w.set("ProxyJump", origin{val: t.Jump})
	}
	for k, v := range t.Options {
		w.set(k, origin{val: v})
	}
	if err := w.readConfig(t.Config); err != nil {
		return nil, err
	}
	s := &settings{alias: t.Host, home: home, dir: t.Dir, host: w.hostName()}
	if err := (Target{Host: s.host}).validate(); err != nil {
		return nil, w.first["hostname"].errorf("HostName", "%q is not a host name", s.host)
	}
	r := reader{w: w, s: s}
	s.user = r.text("User", localUser)
	s.port = r.number("Port", defaultPort, 1, 65535)
	s.hostKeyAlias = r.text("HostKeyAlias", "")
	s.strict = r.choice("StrictHostKeyChecking", strictAsk, map[string]string{
		"ask": strictAsk, "yes": strictYes, "true": strictYes, "accept-new": strictAcceptNew,
		"no": strictAcceptNew, "off": strictAcceptNew, "false": strictAcceptNew,
	})
	s.hashHosts = r.flag("HashKnownHosts", false)
	s.knownHosts = r.paths("UserKnownHostsFile", defaultKnownHosts)
	s.globalHosts = r.paths("GlobalKnownHostsFile", defaultGlobalHosts)
	s.revoked = r.file("RevokedHostKeys")
	s.hostKeyAlgos = r.hostKeyAlgorithms()
	s.identitiesOnly = r.flag("IdentitiesOnly", false)
	s.agentSocket = r.agent()
	s.identities = r.identities(append([]string{t.IdentityFile}, t.MoreIdentityFiles...))
	s.family = r.choice("AddressFamily", "tcp", map[string]string{"any": "tcp", "inet": "tcp4", "inet6": "tcp6"})
	s.bind = r.text("BindAddress", "")
	s.algorithms = r.algorithms()
	s.timeout = r.duration("ConnectTimeout", defaultTimeout)
	s.silence = cmp.Or(t.Timeout, defaultSilence)
	if t.Timeout > 0 {
		s.timeout = t.Timeout
	}
	s.alive = r.duration("ServerAliveInterval", defaultAlive)
	s.aliveMax = r.number("ServerAliveCountMax", defaultAliveMax, 1, 1<<20)
	s.batch = r.flag("BatchMode", false)
	s.pubkeyAuth = r.choice("PubkeyAuthentication", "yes", map[string]string{"yes": "yes", "true": "yes", "unbound": "yes", "host-bound": "yes", "no": "no", "false": "no"}) == "yes"
	s.passAuth = r.flag("PasswordAuthentication", true)
	s.kbdAuth = r.flag("KbdInteractiveAuthentication", true)
	r.preferred()
	s.passPrompts = r.number("NumberOfPasswordPrompts", defaultPrompts, 1, 100)
	s.jump = r.text("ProxyJump", "")
	if strings.EqualFold(s.jump, "none") {
		s.jump = ""
	} else if o := w.first["proxycommand"]; s.jump == "" && o.val != "" && !strings.EqualFold(o.val, "none") {
		r.fail(&ConfigError{File: o.file, Line: o.line, Key: "ProxyCommand", Msg: "it is not supported",
			Fix: "go through the host with ProxyJump (sshd.jump in deploy.ini), or have the OpenSSH client connect: bundlefs -o ssh_command=ssh; ProxyJump none connects directly"})
	}
	if r.err != nil {
		return nil, r.err
	}
	s.notes = w.notes()
	return s, nil
}

// reader turns words into settings; it keeps the first error.
type reader struct {
	w   *words
	s   *settings
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) get(key string) (origin, bool) {
	o, ok := r.w.first[strings.ToLower(key)]
	return o, ok
}

func (r *reader) text(key, def string) string {
	o, ok := r.get(key)
	if !ok {
		return def
	}
	list, err := splitWords(o.val)
	if err != nil || len(list) != 1 {
		r.fail(o.errorf(key, "%q is not one word", o.val))
		return def
	}
	return list[0]
}

func (r *reader) number(key string, def, low, high int) int {
	o, ok := r.get(key)
	if !ok {
		return def
	}
	n, err := strconv.Atoi(o.val)
	if err != nil || n < low || n > high {
		r.fail(o.errorf(key, "%q is not a number between %d and %d", o.val, low, high))
		return def
	}
	return n
}

func (r *reader) choice(key, def string, values map[string]string) string {
	o, ok := r.get(key)
	if !ok {
		return def
	}
	v, ok := values[strings.ToLower(o.val)]
	if !ok {
		r.fail(o.errorf(key, "%q is not a value it can have", o.val))
		return def
	}
	return v
}

func (r *reader) flag(key string, def bool) bool {
	return r.choice(key, map[bool]string{true: "yes", false: "no"}[def],
		map[string]string{"yes": "yes", "true": "yes", "no": "no", "false": "no"}) == "yes"
}

// duration reads seconds or OpenSSH's time format, e.g. 1m30s; "none" is 0.
func (r *reader) duration(key string, def time.Duration) time.Duration {
	o, ok := r.get(key)
	if !ok {
		return def
	}
	if strings.EqualFold(o.val, "none") {
		return 0
	}
	seconds, number, ok := 0, 0, o.val != ""
	digits := false
	for _, c := range o.val + "s" {
		unit := 0
		switch {
		case '0' <= c && c <= '9' && number < maxConfigSeconds:
			number, digits = number*10+int(c-'0'), true
			continue
		case c == 's' || c == 'S':
			unit = 1
		case c == 'm' || c == 'M':
			unit = 60
		case c == 'h' || c == 'H':
			unit = 3600
		case c == 'd' || c == 'D':
			unit = 86400
		case c == 'w' || c == 'W':
			unit = 7 * 86400
		}
		if unit == 0 || seconds > maxConfigSeconds {
			ok = false
			break
		}
		seconds += number * unit
		number = 0
	}
	if !ok || !digits || seconds > maxConfigSeconds {
		r.fail(o.errorf(key, "%q is not a time in seconds", o.val))
		return def
	}
	return time.Duration(seconds) * time.Second
}

// preferred switches off the ways to log in that PreferredAuthentications leaves out; their order
// is our own.
func (r *reader) preferred() {
	o, ok := r.get("PreferredAuthentications")
	if !ok {
		return
	}
	named := strings.Split(o.val, ",")
	for method, allowed := range map[string]*bool{"publickey": &r.s.pubkeyAuth, "password": &r.s.passAuth, "keyboard-interactive": &r.s.kbdAuth} {
		*allowed = *allowed && slices.Contains(named, method)
	}
}

// file reads the name of one file; "none" and nothing are "".
func (r *reader) file(key string) string {
	o, ok := r.get(key)
	name := r.text(key, "")
	if !ok || strings.EqualFold(name, "none") {
		return ""
	}
	return r.path(key, name, o)
}

// paths reads a list of files; "none" is an empty list.
func (r *reader) paths(key, def string) []string {
	o, ok := r.get(key)
	if !ok {
		o.val = def
	}
	if strings.EqualFold(o.val, "none") {
		return nil
	}
	list, err := splitWords(o.val)
	if err != nil {
		r.fail(o.errorf(key, "%v", err))
	}
	for i := range list {
		list[i] = r.path(key, list[i], o)
	}
	return list
}

// path expands ~, ${VARIABLE} and % tokens; the ~ last, since a home folder may
// have a % in its name.
func (r *reader) path(key, path string, o origin) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if name, rest, ok := strings.Cut(path[i:], "}"); ok && strings.HasPrefix(name, "${") {
			val, set := os.LookupEnv(name[2:])
			if !set {
				r.fail(o.errorf(key, "the environment has no %s", name[2:]))
			}
			b.WriteString(val)
			i = len(path) - len(rest) - 1
			continue
		}
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		i++
		token := byte(0)
		if i < len(path) {
			token = path[i]
		}
		switch token {
		case '%':
			b.WriteByte('%')
		case 'd':
			b.WriteString(r.s.home)
		case 'h':
			b.WriteString(r.s.host)
		case 'n':
			b.WriteString(r.s.alias)
		case 'k':
			if r.s.hostKeyAlias != "" {
				b.WriteString(r.s.hostKeyAlias)
			} else {
				b.WriteString(r.s.alias)
			}
		case 'p':
			fmt.Fprint(&b, r.s.port)
		case 'r':
			b.WriteString(r.s.user)
		case 'u':
			b.WriteString(r.w.localUser)
		case 'i':
			fmt.Fprint(&b, os.Getuid())
		default:
			r.fail(o.errorf(key, "%q has an unknown token at %q", path, path[i-1:]))
			return path
		}
	}
	name := expandHome(b.String(), r.s.home)
	if r.s.dir != "" && !filepath.IsAbs(name) {
		name = filepath.Join(r.s.dir, name)
	}
	return name
}

func (r *reader) agent() string {
	o, ok := r.get("IdentityAgent")
	if !ok || o.val == agentFromEnv {
		return os.Getenv(agentFromEnv)
	}
	if strings.EqualFold(o.val, "none") {
		return ""
	}
	if name, ok := strings.CutPrefix(o.val, "$"); ok && !strings.HasPrefix(name, "{") {
		return os.Getenv(name)
	}
	return r.path("IdentityAgent", r.text("IdentityAgent", ""), o)
}

// identities are the target's key, then those of the files, or else the defaults.
func (r *reader) identities(own []string) []identity {
	var list []identity
	seen := map[string]bool{}
	add := func(path string, explicit bool) {
		if !seen[path] {
			seen[path] = true
			list = append(list, identity{path, explicit})
		}
	}
	for _, path := range own {
		if path != "" {
			add(expandHome(path, r.s.home), true)
		}
	}
	for _, o := range r.w.identities {
		words, err := splitWords(o.val)
		if err != nil || len(words) != 1 {
			r.fail(o.errorf("IdentityFile", "%q is not one file", o.val))
			continue
		}
		if strings.EqualFold(words[0], "none") {
			seen[""] = true
			continue
		}
		add(r.path("IdentityFile", words[0], o), true)
	}
	if len(list) == 0 && !seen[""] {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			add(expandHome("~/.ssh/"+name, r.s.home), false)
		}
	}
	return list
}
