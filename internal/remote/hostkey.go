package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostChecker decides about the key that one host offers.
type hostChecker struct {
	s    *settings
	db   *hostDB
	name string // as looked for in known_hosts
	bare string // the name without the port; "" when there is no such fallback
	ask  *asker // nil asks nothing
	log  *slog.Logger
	err  error // why the key was refused, for the caller of the handshake
}

func newHostChecker(s *settings, ask *asker, log *slog.Logger) (*hostChecker, error) {
	db, err := readKnownHosts(append(append([]string{}, s.knownHosts...), s.globalHosts...), log)
	if err != nil {
		return nil, err
	}
	if s.revoked != "" {
		if err := db.readRevoked(s.revoked); err != nil {
			return nil, err
		}
	}
	h := &hostChecker{s: s, db: db, name: s.knownName(), ask: ask, log: log}
	if s.hostKeyAlias == "" && s.port != defaultPort {
		h.bare = strings.ToLower(s.host)
	}
	return h, nil
}

// algorithms is for ssh.ClientConfig.HostKeyAlgorithms.
func (h *hostChecker) algorithms() []string {
	if len(h.db.find("", h.name)) == 0 && len(h.db.find("cert-authority", h.name)) == 0 && h.bare != "" {
		return h.permitted(h.db.algorithms(h.bare))
	}
	return h.permitted(h.db.algorithms(h.name))
}

// permitted leaves of an order what HostKeyAlgorithms names; what else that names comes last,
// certificates only where there is nothing else.
func (h *hostChecker) permitted(order []string) []string {
	named := h.s.hostKeyAlgos
	if named == nil {
		return order
	}
	isNamed := func(a string) bool { return slices.Contains(named, a) }
	list := slices.DeleteFunc(order, func(a string) bool { return !isNamed(a) })
	for _, a := range named {
		if !slices.Contains(list, a) && !strings.Contains(a, "-cert-v01@") {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return named
	}
	return list
}

// check is an ssh.HostKeyCallback; the address it is called with is not used,
// since the name to look for comes from the settings.
func (h *hostChecker) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	h.err = h.decide(key)
	return h.err
}

func (h *hostChecker) decide(key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		for _, k := range []ssh.PublicKey{cert.Key, cert.SignatureKey} {
			if line, revoked := h.db.revoked(k); revoked {
				return h.refuse(HostKeyRevoked, k, line)
			}
		}
		if h.authority(cert.SignatureKey) {
			return h.checkCert(cert)
		}
		key = cert.Key // no authority that we know: as OpenSSH, judge the plain key
	}
	if line, revoked := h.db.revoked(key); revoked {
		return h.refuse(HostKeyRevoked, key, line)
	}
	var other []KnownLine
	for _, l := range h.db.find("", h.name) {
		if sameKey(l.key, key) {
			return nil
		}
		other = append(other, l.known())
	}
	if len(other) > 0 {
		return h.refuse(HostKeyChanged, key, other...)
	}
	if h.bare != "" {
		for _, l := range h.db.find("", h.bare) {
			if sameKey(l.key, key) {
				return nil // known under its name without the port, as OpenSSH
			}
		}
	}
	return h.unknown(key)
}

func (h *hostChecker) authority(key ssh.PublicKey) bool {
	for _, l := range h.db.find("cert-authority", h.name) {
		if sameKey(l.key, key) {
			return true
		}
	}
	if h.bare != "" {
		for _, l := range h.db.find("cert-authority", h.bare) {
			if sameKey(l.key, key) {
				return true
			}
		}
	}
	return false
}

func (h *hostChecker) checkCert(cert *ssh.Certificate) error {
	err := error(nil)
	principal := strings.ToLower(h.s.host)
	if h.s.hostKeyAlias != "" {
		principal = h.name
	}
	if cert.CertType != ssh.HostCert {
		err = errors.New("it is not a host certificate")
	} else {
		err = new(ssh.CertChecker).CheckCert(principal, cert)
	}
	if err == nil {
		return nil
	}
	e := h.refuse(HostKeyBadCert, cert.Key)
	e.Err = err
	return e
}

// unknown asks, accepts or refuses a key of a host that no file has.
func (h *hostChecker) unknown(key ssh.PublicKey) error {
	refused := h.refuse(HostKeyUnknown, key)
	switch {
	case h.s.strict == strictAcceptNew:
	case h.s.strict == strictAsk && h.ask != nil:
		yes, err := h.ask.confirm(fmt.Sprintf("The host key of %s (%s) is not known.\nIt is %s %s\nConnect and remember it?",
			h.name, net.JoinHostPort(h.s.host, fmt.Sprint(h.s.port)), key.Type(), refused.Fingerprint))
		if err != nil {
			refused.Err = err
			return refused
		}
		if !yes {
			return refused
		}
	default:
		return refused
	}
	if len(h.s.knownHosts) == 0 {
		h.log.Warn("host key accepted, but there is no UserKnownHostsFile to remember it", "host", h.name, "fingerprint", refused.Fingerprint)
		return nil
	}
	if err := appendKnownHost(h.s.knownHosts[0], h.name, key, h.s.hashHosts); err != nil {
		// A key that cannot be remembered would be accepted blindly again and again.
		refused.Err = err
		return refused
	}
	h.log.Warn("host key added", "host", h.name, "type", key.Type(), "fingerprint", refused.Fingerprint, "file", h.s.knownHosts[0])
	return nil
}

func (h *hostChecker) refuse(kind HostKeyKind, key ssh.PublicKey, known ...KnownLine) *HostKeyError {
	return &HostKeyError{Kind: kind, Name: h.name, Host: h.s.host, Port: h.s.port, KeyType: key.Type(),
		Fingerprint: ssh.FingerprintSHA256(key), Known: known, Files: h.db.files, Alias: h.s.hostKeyAlias != ""}
}
