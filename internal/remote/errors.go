package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrClosed is what Err returns after Close, and what calls on a closed client fail with.
var ErrClosed = errors.New("connection closed")

// ConfigError is a target or an ssh_config file that cannot be used.
type ConfigError struct {
	File string // "" when the target itself or one of its options is wrong
	Line int    // 0 when not known
	Key  string // the ssh_config word, "" when it is not about one
	Msg  string // what is wrong
	Fix  string // what to do; may be ""
	Err  error  // the cause; may be nil
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString("ssh config: ")
	if e.File != "" {
		b.WriteString(e.place() + ": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *ConfigError) Unwrap() error { return e.Err }

// place is the file with the line, as far as known.
func (e *ConfigError) place() string {
	if e.Line == 0 {
		return e.File
	}
	return fmt.Sprintf("%s:%d", e.File, e.Line)
}

// Hint says what to do.
func (e *ConfigError) Hint() string {
	switch {
	case e.Fix != "":
		return e.Fix
	case e.File != "":
		return "mend " + e.place() + "; man ssh_config tells what may be there"
	case e.Key != "":
		return "man ssh_config tells what " + e.Key + " may be"
	}
	return "write the host as [user@]host, without blanks"
}

// HostKeyKind says why a host key was refused.
type HostKeyKind int

// The kinds of HostKeyError.
const (
	HostKeyUnknown HostKeyKind = iota + 1 // no known_hosts file has the host
	HostKeyChanged                        // known_hosts has another key for the host
	HostKeyRevoked                        // a @revoked line has the key
	HostKeyBadCert                        // a certificate that does not hold for the host
)

// KnownLine is a line of a known_hosts file.
type KnownLine struct {
	File        string
	Line        int
	KeyType     string // e.g. ssh-ed25519
	Fingerprint string // SHA256:…
}

func (k KnownLine) String() string {
	return fmt.Sprintf("%s:%d: %s %s", k.File, k.Line, k.KeyType, k.Fingerprint)
}

// HostKeyError is a host key that was not accepted; nothing was sent to the host.
type HostKeyError struct {
	Kind        HostKeyKind
	Name        string      // as looked for in known_hosts: host, [host]:port or HostKeyAlias
	Host        string      // the address that was connected to
	Port        int         // its port
	KeyType     string      // of the key that was offered
	Fingerprint string      // of the key that was offered, SHA256:…
	Known       []KnownLine // the lines that disagree or revoke
	Files       []string    // the known_hosts files that were read, the first is where to add
	Alias       bool        // Name is a HostKeyAlias
	Err         error       // the cause, for HostKeyBadCert
}

func (e *HostKeyError) Error() string {
	offered := e.KeyType + " " + e.Fingerprint
	switch e.Kind {
	case HostKeyChanged:
		lines := make([]string, len(e.Known))
		for i, k := range e.Known {
			lines[i] = k.String()
		}
		return fmt.Sprintf("host key of %s changed: it offers %s, but known is %s", e.Name, offered, strings.Join(lines, ", "))
	case HostKeyRevoked:
		where := ""
		if len(e.Known) > 0 {
			where = fmt.Sprintf(" by %s:%d", e.Known[0].File, e.Known[0].Line)
		}
		return fmt.Sprintf("host key of %s is revoked%s: %s", e.Name, where, offered)
	case HostKeyBadCert:
		return fmt.Sprintf("host certificate of %s is not valid: %s: %v", e.Name, offered, e.Err)
	default:
		if e.Err != nil {
			offered += fmt.Sprintf(": %v", e.Err)
		}
		return fmt.Sprintf("host key of %s is not known: it offers %s", e.Name, offered)
	}
}

func (e *HostKeyError) Unwrap() error { return e.Err }

// Hint says how to verify the key and what to change.
func (e *HostKeyError) Hint() string {
	file := "~/.ssh/known_hosts"
	if len(e.Files) > 0 {
		file = e.Files[0]
	}
	switch e.Kind {
	case HostKeyChanged:
		k := e.Known[0]
		return fmt.Sprintf("somebody may be between you and the host, or it was installed anew: ask its administrator for the fingerprint; if %s is right, remove the old line with: %s",
			e.Fingerprint, Quote("ssh-keygen", "-f", k.File, "-R", e.Name))
	case HostKeyRevoked:
		return "do not connect: the key was declared stolen or retired; the host needs a new one"
	case HostKeyBadCert:
		return "ask the host's administrator to renew its certificate"
	default:
		port := fmt.Sprint(e.Port)
		if e.Alias {
			return fmt.Sprintf("compare %s with what the host's administrator tells, then connect once by hand and answer yes: %s",
				e.Fingerprint, Quote("ssh", "-p", port, "-o", "HostKeyAlias="+e.Name, "-o", "UserKnownHostsFile="+file, e.Host))
		}
		return fmt.Sprintf("compare %s with what the host's administrator tells, then add the key with: %s >> %s",
			e.Fingerprint, Quote("ssh-keyscan", "-p", port, "-t", scanType(e.KeyType), e.Host), Quote(file))
	}
}

// scanType is the key type as ssh-keyscan's -t wants it.
func scanType(keyType string) string {
	switch {
	case strings.HasPrefix(keyType, "ecdsa-"):
		return "ecdsa"
	case strings.Contains(keyType, "ed25519"):
		return "ed25519"
	case strings.Contains(keyType, "rsa"):
		return "rsa"
	}
	return keyType
}

// UnreachableKind says what stood between us and an SSH conversation.
type UnreachableKind int

// The kinds of UnreachableError.
const (
	UnreachableOther    UnreachableKind = iota // see Err
	UnreachableName                            // the host name was not found
	UnreachableRefused                         // nothing listens on the port
	UnreachableNoRoute                         // no route to the host or network
	UnreachableTimeout                         // no answer in ConnectTimeout
	UnreachableProtocol                        // it answered, but not with SSH, or hung up
	UnreachableJump                            // the jump host does not forward
)

// UnreachableError is a node that could not be spoken to.
type UnreachableError struct {
	Kind UnreachableKind
	Host string
	Port int
	Via  string // the jump host, "" if none
	Err  error  // the cause
}

func (e *UnreachableError) Error() string {
	via := ""
	if e.Via != "" {
		via = " through " + e.Via
	}
	at := Target{Host: e.Host, Port: e.Port}.String()
	what := map[UnreachableKind]string{
		UnreachableName: "host name not found", UnreachableRefused: "connection refused", UnreachableNoRoute: "no route to the host",
		UnreachableTimeout: "no answer in time", UnreachableProtocol: "no SSH conversation", UnreachableJump: "the jump host does not forward the connection",
		UnreachableOther: "cannot connect",
	}[e.Kind]
	if e.Err == nil {
		return fmt.Sprintf("connect to %s%s: %s", at, via, what)
	}
	return fmt.Sprintf("connect to %s%s: %s: %v", at, via, what, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint says where to look.
func (e *UnreachableError) Hint() string {
	switch e.Kind {
	case UnreachableName:
		return fmt.Sprintf("is %q spelled right? it is neither an alias of the ssh_config file nor a name that can be looked up", e.Host)
	case UnreachableRefused:
		return fmt.Sprintf("the host is up, but nothing listens on port %d: is sshd running, and is it this port?", e.Port)
	case UnreachableNoRoute:
		return "is this machine on the right network or VPN, and the node switched on?"
	case UnreachableTimeout:
		return fmt.Sprintf("is the node switched on, and does no firewall drop port %d? ConnectTimeout sets how long to wait", e.Port)
	case UnreachableProtocol:
		return fmt.Sprintf("is it an SSH server that listens on port %d? it may also limit connections (MaxStartups) or refuse this address", e.Port)
	case UnreachableJump:
		return "sshd on the jump host needs AllowTcpForwarding yes"
	}
	return fmt.Sprintf("can anything else on this machine reach it? %s tells more", Quote("ssh", "-v", "-p", fmt.Sprint(e.Port), e.Host))
}

// AuthError is a login that the node did not accept.
type AuthError struct {
	User, Host string
	Methods    []string // what the node accepts, e.g. publickey, password
	Tried      []string // what was tried and what was left out, with the reason, in order
	Prompted   bool     // somebody could be asked
	Err        error    // a cause apart from "refused"; may be nil
}

func (e *AuthError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "log in as %s on %s: permission denied", e.User, e.Host)
	if len(e.Methods) > 0 {
		fmt.Fprintf(&b, " (the node accepts %s)", strings.Join(e.Methods, ", "))
	}
	if len(e.Tried) > 0 {
		b.WriteString("; " + strings.Join(e.Tried, "; "))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *AuthError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *AuthError) Hint() string {
	if e.Err != nil && strings.Contains(e.Err.Error(), "oo many authentication failures") {
		return "too many keys were offered: name the right one with IdentityFile and set IdentitiesOnly yes"
	}
	if e.Prompted && slices.ContainsFunc(e.Tried, func(s string) bool { return strings.HasPrefix(s, "password: tried") }) {
		return fmt.Sprintf("was that the password of %s there? a public key in ~%s/.ssh/authorized_keys does without one", e.User, e.User)
	}
	h := fmt.Sprintf("put your public key in ~%s/.ssh/authorized_keys on the node, or name the right key", e.User)
	if !e.Prompted {
		h += "; an encrypted key has to be in ssh-agent (ssh-add) where nobody can be asked for its passphrase"
	}
	return h
}

// LostError is a connection that ended by itself.
type LostError struct {
	Host string
	Err  error // the cause
}

func (e *LostError) Error() string {
	return fmt.Sprintf("connection to %s lost: %v", e.Host, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *LostError) Hint() string {
	return "check the network and the node, then go on where it stopped"
}
