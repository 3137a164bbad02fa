package deploy

import (
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// validate checks the attributes with a meaning and fills the node's fields. A
// value whose substitution failed was reported already and is passed over.
func (b *builder) validate(n *Node) {
	each := func(key string, f func(value string) (msg, hint string)) {
		a := n.attrs[key]
		if a == nil || a.state != evalDone {
			return
		}
		if msg, hint := f(a.value); msg != "" {
			b.problems.addFor(n, a.origin, hint, "%s", msg)
		}
	}
	n.host = n.Name
	each("sshd.ip", func(v string) (msg, hint string) { n.host, msg, hint = checkHost(v); return })
	each("sshd.port", func(v string) (msg, hint string) {
		if v == "" {
			return "", ""
		}
		n.port, msg, hint = checkPort(v)
		return
	})
	each("sshd.timeout", func(v string) (msg, hint string) { n.timeout, msg, hint = checkTimeout(v); return })
	each("sshd.jump", func(v string) (msg, hint string) { n.jump = v; return checkJump(v) })
	each("sshd.config", func(v string) (msg, hint string) {
		n.noSSHConfig = v == "no"
		if v != "yes" && v != "no" {
			return fmt.Sprintf("malformed value %q", shorten(v)), "write yes or no"
		}
		return "", ""
	})
	each("admin", func(v string) (msg, hint string) { n.user = v; return checkUser(v) })
	each("op_key", checkKeyWord)
	each("python", func(v string) (msg, hint string) { n.python = v; return checkCommand(v) })
	each("bundle", func(v string) (msg, hint string) { n.bundle = v; return checkBelowHome(v) })
	each("venv", func(v string) (msg, hint string) { n.venv = v; return checkBelowHome(v) })
	each("mount", func(v string) (msg, hint string) { n.mount, msg, hint = checkMount(v, n.home); return })
	each("venv", func(v string) (msg, hint string) {
		if below(v, n.bundle) || below(n.bundle, v) {
			return fmt.Sprintf("venv %q and bundle %q are the same or inside each other", v, n.bundle),
				"keep them apart: closing the bundle removes it with all that is in it"
		}
		return "", ""
	})
}

// checkTimeout takes a Go duration or a number of seconds; "" is 0.
func checkTimeout(v string) (d time.Duration, msg, hint string) {
	if v == "" {
		return 0, "", ""
	}
	text := v
	if _, err := strconv.ParseUint(v, 10, 32); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > 24*time.Hour {
		return 0, fmt.Sprintf("malformed duration %q", shorten(v)), "write it as 30, 30s or 2m: 1s to 24h"
	}
	return d, "", ""
}

// below tells whether the clean path p is dir or inside it.
func below(p, dir string) bool {
	return p != "" && dir != "" && (p == dir || strings.HasPrefix(p, dir+"/"))
}

// mounts refuses two nodes that would be mounted at the same place, or one
// inside the other: its mount point would be a folder on the other's node.
func (b *builder) mounts() {
	taken := map[string]*Node{}
	for _, n := range b.file.nodes {
		if n.mount == "" || n.mount == noMount {
			continue
		}
		if first, ok := taken[n.mount]; ok {
			b.problems.addFor(n, n.Origin("mount"), "put %(name)s into it", "%s is already the mount point of node %s", n.mount, first.Name)
			continue
		}
		taken[n.mount] = n
	}
	for _, n := range b.file.nodes {
		if n.mount == "" || n.mount == noMount {
			continue
		}
		for dir := filepath.Dir(n.mount); dir != "/"; dir = filepath.Dir(dir) {
			if outer, ok := taken[dir]; ok {
				b.problems.addFor(n, n.Origin("mount"), "keep the mount points apart", "%s is inside the mount point of node %s", n.mount, outer.Name)
				break
			}
		}
	}
}

// checkHost allows an IP address, a host name or an alias of ssh_config. The
// host is returned as it is dialled: an IPv6 address without brackets.
func checkHost(v string) (host, msg, hint string) {
	const rule = "write an IPv4 or IPv6 address, a host name or an alias of ~/.ssh/config"
	if v == "" {
		return v, "empty", "leave it out to use the node's name as the host"
	}
	if strings.HasPrefix(v, "-") {
		return v, fmt.Sprintf("malformed host %q: begins with \"-\"", shorten(v)), rule
	}
	if inner, ok := strings.CutPrefix(v, "["); ok && strings.HasSuffix(v, "]") {
		inner = strings.TrimSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); err == nil && a.Is6() && saneHost(a.Zone()) {
			return inner, "", ""
		}
		return v, fmt.Sprintf("malformed host %q", shorten(v)), rule
	}
	if strings.Contains(v, ":") {
		if a, err := netip.ParseAddr(v); err == nil && saneHost(a.Zone()) {
			return v, "", ""
		}
		if h, p, ok := strings.Cut(v, ":"); ok && saneHost(h) && isDigits(p) {
			return v, fmt.Sprintf("malformed host %q", v), fmt.Sprintf("write sshd.ip = %s and sshd.port = %s", h, p)
		}
		return v, fmt.Sprintf("malformed host %q", shorten(v)), rule
	}
	if strings.Contains(v, "@") {
		return v, fmt.Sprintf("malformed host %q", shorten(v)), "give the user as admin"
	}
	if !saneHost(v) {
		return v, fmt.Sprintf("malformed host %q", shorten(v)), rule
	}
	return v, "", ""
}

// saneHost tells whether every letter of v may be in a host name or an alias.
func saneHost(v string) bool {
	return len(v) <= 255 && strings.IndexFunc(v, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-+", r)
	}) < 0
}

func isDigits(v string) bool {
	return v != "" && strings.Trim(v, "0123456789") == ""
}

func checkPort(v string) (port int, msg, hint string) {
	port, err := strconv.Atoi(v)
	if err != nil || !isDigits(v) || port < 1 || port > 65535 {
		return 0, fmt.Sprintf("malformed port %q", shorten(v)), "write a number from 1 to 65535"
	}
	return port, "", ""
}

// checkJump allows what ssh's ProxyJump takes but for URIs.
func checkJump(v string) (msg, hint string) {
	if v == "" || v == "none" {
		return "", ""
	}
	for _, hop := range strings.Split(v, ",") {
		bad := func(why string) (string, string) {
			return fmt.Sprintf("malformed jump host %q: %s", shorten(hop), why), "write [user@]host[:port], several separated by commas, or none"
		}
		host := hop
		if i := strings.LastIndex(hop, "@"); i >= 0 {
			host = hop[i+1:]
			if msg, _ := checkUser(hop[:i]); msg != "" || i == 0 {
				return bad("the user")
			}
		}
		// A port follows the last colon, unless the colons are an IPv6 address's.
		if i := strings.LastIndex(host, ":"); i >= 0 && (strings.Count(host, ":") == 1 || strings.HasSuffix(host[:i], "]")) {
			if _, msg, _ := checkPort(host[i+1:]); msg != "" {
				return bad(msg)
			}
			host = host[:i]
		}
		if _, msg, _ := checkHost(host); msg != "" {
			return bad("the host")
		}
	}
	return "", ""
}

func checkUser(v string) (msg, hint string) {
	if strings.HasPrefix(v, "-") || len(v) > 255 || strings.ContainsAny(v, "'\"`$&;|<>(){}*?!:,/ ") || !printable(v) {
		return fmt.Sprintf("malformed user %q", shorten(v)), "write the login name on the node"
	}
	return "", ""
}

func checkKeyWord(v string) (msg, hint string) {
	if strings.HasPrefix(v, "-") || !printable(v) || strings.HasPrefix(v, "~") && v != "~" && !strings.HasPrefix(v, "~/") {
		return fmt.Sprintf("malformed key %q", shorten(v)), "write WORD for ~/.ssh/id_ed25519-WORD and its like, or the path of an identity file"
	}
	return "", ""
}

func checkCommand(v string) (msg, hint string) {
	if v == "" || strings.HasPrefix(v, "-") || strings.HasPrefix(v, "~") || !printable(v) {
		return fmt.Sprintf("malformed command %q", shorten(v)), "write the name or the path of the node's python, such as python3"
	}
	return "", ""
}

// checkBelowHome allows a clean relative path below the home folder: the
// bundle is removed recursively and the venv may be cleared, so a path that
// could be anything else is refused.
func checkBelowHome(v string) (msg, hint string) {
	const rule = "write a path below the home on the node, such as bundle-1.0"
	bad := func(why string) (string, string) { return fmt.Sprintf("malformed path %q: %s", shorten(v), why), rule }
	switch {
	case v == "":
		return "empty path", rule
	case !printable(v):
		return bad("it has a character that cannot be printed")
	case v[0] == '/':
		return bad("it is not relative to the home")
	case v[0] == '-' || v[0] == '~':
		return bad(fmt.Sprintf("begins with %q", v[:1]))
	case len(v) > 1024:
		return bad("it is too long")
	}
	for _, part := range strings.Split(v, "/") {
		switch {
		case part == "..":
			return bad(`it has ".."`)
		case len(part) > 255:
			return bad("a part of it is too long")
		}
	}
	if clean := path.Clean(v); clean == "." {
		return bad("it is the home itself")
	} else if clean != v {
		return fmt.Sprintf("malformed path %q: it has parts without a meaning", shorten(v)), fmt.Sprintf("write %s", shorten(clean))
	}
	return "", ""
}

// noMount is the attribute mount of a node whose bundle is not mounted.
const noMount = "none"

// checkMount gives the clean mount point; "~" is expanded already.
func checkMount(v, home string) (mount, msg, hint string) {
	const rule = "write an absolute path, one below ~/, or none"
	bad := func(why string) (string, string, string) {
		return "", fmt.Sprintf("malformed mount point %q: %s", shorten(v), why), rule
	}
	clean := filepath.Clean(v)
	switch {
	case v == noMount:
		return v, "", ""
	case v == "":
		return bad("it is empty")
	case !printable(v):
		return bad("it has a character that cannot be printed")
	case home == "" && (v == "~" || strings.HasPrefix(v, "~/") || !filepath.IsAbs(v)):
		return bad("the user's home is not known")
	case !filepath.IsAbs(v):
		return bad("it is not absolute")
	case clean == "/" || clean == home:
		return bad("it would hide all that is there")
	}
	return clean, "", ""
}

// printable tells whether v is one line of characters that can be seen.
func printable(v string) bool {
	return strings.IndexFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
