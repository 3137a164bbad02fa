package remote

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// unheeded are the words of ssh_config that are not obeyed although they may change the
// connection, with what holds in their place.
var unheeded = map[string]string{
	"BindInterface":            "the system chooses the interface",
	"CASignatureAlgorithms":    "certificates of hosts may be signed by any algorithm that is supported",
	"CanonicalizeHostname":     "the name of the host is looked up as it is given",
	"CertificateFile":          "certificates for the login are taken from ssh-agent only (ssh-add)",
	"KnownHostsCommand":        "host keys are looked up in files only",
	"PKCS11Provider":           "keys of tokens are taken from ssh-agent only (ssh-add -s)",
	"PubkeyAcceptedAlgorithms": "keys of all kinds are offered",
	"PubkeyAcceptedKeyTypes":   "keys of all kinds are offered",
	"RequiredRSASize":          "RSA keys of all sizes are used",
	"SecurityKeyProvider":      "security keys are taken from ssh-agent only",
	"SmartcardDevice":          "keys of tokens are taken from ssh-agent only (ssh-add -s)",
	"VerifyHostKeyDNS":         "host keys are looked up in files only",
}

// policies are those that distributions set in /etc, for everybody and where it narrows nothing
// that is in use: only who sets one for himself is told.
var policies = []string{"CASignatureAlgorithms", "PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes", "RequiredRSASize"}

// Notes tells, a line each, what the ssh_config files say about a target and its jump hosts that
// [Dial] does not obey although it may change the connection. It is empty when the files cannot
// be read, which Dial tells.
func Notes(t Target) []string {
	s, err := resolve(t, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil
	}
	list := s.notes
	if s.jump != "" {
		hops, err := parseJumps(s.jump)
		if err != nil {
			return nil
		}
		for _, hop := range hops {
			hop.Config, hop.Dir, hop.Jump = t.Config, t.Dir, "none"
			if s, err := resolve(hop, slog.New(slog.DiscardHandler)); err == nil {
				list = append(list, s.notes...)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (w *words) notes() []string {
	list := w.leftOut
	for _, word := range slices.Sorted(maps.Keys(unheeded)) {
		o, ok := w.first[strings.ToLower(word)]
		if !ok || !o.matters(word) {
			continue
		}
		where := ""
		if o.file != "" {
			where = fmt.Sprintf("%s:%d: ", o.file, o.line)
		}
		list = append(list, fmt.Sprintf("%s%s is not obeyed: %s", where, word, unheeded[word]))
	}
	return list
}

// matters tells whether a word that is not obeyed would have changed something.
func (o origin) matters(word string) bool {
	switch strings.ToLower(o.val) {
	case "", "no", "none", "false", "internal":
		return false
	}
	if !slices.Contains(policies, word) {
		return true
	}
	return !strings.HasPrefix(o.file, "/etc/") && o.val[0] != '+' && o.val[0] != '^'
}
