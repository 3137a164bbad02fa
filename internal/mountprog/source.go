package mountprog

import (
	"fmt"
	"net/netip"
	"strings"
)

// source is what is mounted: [user@]host:[dir].
type source struct {
	text string // as given
	user string // "" when not given
	host string // an IPv6 address without its brackets
	dir  string // "" is the home folder
}

const sourceHint = "write what to mount as [user@]host:[dir], for instance deploy@node1:bundle"

func parseSource(text string) (source, error) {
	s := source{text: text}
	bad := func(format string, args ...any) (source, error) {
		return s, fail(sourceHint, "%q: %s", text, fmt.Sprintf(format, args...))
	}
	colon, open := strings.IndexByte(text, ':'), strings.IndexByte(text, '[')
	if open >= 0 && (colon < 0 || open < colon) {
		end := strings.Index(text[open:], "]")
		switch {
		case end < 0:
			return bad("the '[' before the host has no ']'")
		case open > 0 && text[open-1] != '@':
			return bad("a '[' must be the first character of the host")
		}
		end += open
		if !strings.HasPrefix(text[end+1:], ":") {
			return bad("after the host in brackets comes a ':'")
		}
		s.host, s.dir = text[open+1:end], text[end+2:]
		if open > 0 {
			s.user = text[:open-1]
		}
	} else {
		if colon < 0 {
			return bad("there is no ':' after the host")
		}
		s.host, s.dir = text[:colon], text[colon+1:]
		if at := strings.LastIndexByte(s.host, '@'); at >= 0 {
			s.user, s.host = s.host[:at], s.host[at+1:]
		}
		// Without brackets, the first colon of an IPv6 address parts it.
		if rest := text[len(text)-len(s.host)-1-len(s.dir):]; looksIPv6(rest) {
			return bad("an IPv6 address must be in brackets: [address]:dir")
		}
	}
	switch {
	case s.host == "" && s.user == "" && !strings.HasPrefix(text, "@"):
		return bad("the host is empty") // which passive allows
	case s.host == "":
		s.host = "?"
		return bad("the host is empty")
	case strings.HasPrefix(s.host, "-"), strings.HasPrefix(s.user, "-"):
		return bad("a host or user name must not begin with '-'")
	case strings.HasPrefix(text, "@"):
		return bad("the user is empty")
	case strings.ContainsRune(text, 0):
		return bad("there is a NUL in it")
	}
	return s, nil
}

// looksIPv6 tells whether host:dir, without a user, begins with an IPv6 address.
func looksIPv6(hostDir string) bool {
	for i := len(hostDir); i > 0; i = strings.LastIndexByte(hostDir[:i], ':') {
		if a, err := netip.ParseAddr(hostDir[:i]); err == nil && a.Is6() {
			return true
		}
	}
	return false
}
