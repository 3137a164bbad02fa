package remote

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// Target says which node to connect to and what beats the ssh_config files.
type Target struct {
	// Host is an address, an IPv6 address without brackets, a host name or an
	// alias of ssh_config. It must not be empty nor begin with '-'.
	Host string
	// User on the node; "" takes the one of ssh_config, else the local user.
	User string
	// Port of the node's sshd; 0 takes the one of ssh_config, else 22.
	Port int
	// IdentityFile is a private key that is offered first; "" is none.
	IdentityFile string
	// MoreIdentityFiles are offered after it.
	MoreIdentityFiles []string
	// Jump is a list of hosts to go through, as in ProxyJump; "" takes the one
	// of ssh_config, "none" connects directly.
	Jump string
	// Config is the path of an ssh_config file; "" reads ~/.ssh/config and then
	// /etc/ssh/ssh_config, "none" reads no file.
	Config string
	// Dir is where names of files begin that are relative, in the files too; "" is the current
	// folder, which a program may have left when it connects again.
	Dir string
	// Options are ssh_config words, in any case, with their values; they beat
	// the files and apply to the node only, not to the hosts on the way.
	Options map[string]string
	// Timeout limits each wait for a sign of life of the node: for the connection with its login (in
	// place of ConnectTimeout, also on the way), for a session, and for what Process.Expect waits
	// for. 0 is 30 s, and leaves connecting to ConnectTimeout.
	Timeout time.Duration
}

// String is user@host:port, as far as known, for messages.
func (t Target) String() string {
	var b strings.Builder
	if t.User != "" {
		b.WriteString(t.User + "@")
	}
	if t.Port != 0 {
		b.WriteString(net.JoinHostPort(t.Host, strconv.Itoa(t.Port)))
	} else {
		b.WriteString(t.Host)
	}
	return b.String()
}

func (t Target) validate() error {
	switch {
	case t.Host == "":
		return &ConfigError{Msg: "the host name is empty", Fix: "give a host name, an address or an alias of ~/.ssh/config"}
	case strings.HasPrefix(t.Host, "-"), strings.HasPrefix(t.User, "-"):
		return &ConfigError{Msg: fmt.Sprintf("%q: a host or user name must not begin with '-'", t.String())}
	case strings.ContainsAny(t.Host, " \t\r\n\x00/@") || strings.ContainsAny(t.User, "\r\n\x00"):
		return &ConfigError{Msg: fmt.Sprintf("%q: a host or user name has a character that is not allowed in one", t.String())}
	case t.Port < 0 || t.Port > 65535:
		return &ConfigError{Msg: fmt.Sprintf("port %d is not between 1 and 65535", t.Port)}
	}
	return nil
}

// Prompter asks the operator. Its methods are called one at a time for one
// connection, but connections made at the same time share it.
type Prompter interface {
	// Secret asks for a password or passphrase without showing it.
	Secret(prompt string) (string, error)
	// Confirm asks a yes-or-no question.
	Confirm(prompt string) (bool, error)
}

// Options of Dial that are not about the target.
type Options struct {
	// Prompt asks for what cannot be found otherwise; nil asks for nothing.
	Prompt Prompter
	// Log gets warnings and, at debug level, what is done; nil is silent.
	Log *slog.Logger
}
