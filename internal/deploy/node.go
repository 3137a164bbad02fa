package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Node is one [node:NAME] with all that [DEFAULT] and its groups give it,
// substituted and validated. It does not change after Load.
type Node struct {
	// Name is the node's name, also its attribute "name".
	Name string

	file   *File
	origin Origin // of the section
	groups []string
	attrs  map[string]*attr

	host, user, jump    string
	port                int
	timeout             time.Duration
	noSSHConfig         bool
	bundle, venv        string
	python, mount, home string
}

// attr is an attribute of a node: as written, and substituted.
type attr struct {
	raw, value string
	origin     Origin
	state      evalState
}

// Host is where to connect to: an IPv4 or IPv6 address (without brackets), a
// host name or an alias of the SSH configuration. It is sshd.ip, or the node's
// name where that is not given.
func (n *Node) Host() string { return n.host }

// User is the user on the node, the attribute admin; "" if not given.
func (n *Node) User() string { return n.user }

// Port is sshd.port; 0 if not given, which leaves it to the SSH configuration.
func (n *Node) Port() int { return n.port }

// Jump is sshd.jump in the form of ssh's ProxyJump, [user@]host[:port],…; ""
// if not given, "none" for a direct connection whatever the SSH configuration
// says.
func (n *Node) Jump() string { return n.jump }

// Timeout is sshd.timeout: how long to wait for a sign of life of the node; 0 if not given.
func (n *Node) Timeout() time.Duration { return n.timeout }

// UseSSHConfig tells whether the SSH configuration files apply (sshd.config).
func (n *Node) UseSSHConfig() bool { return !n.noSSHConfig }

// Bundle is the bundle's folder on the node: relative to the user's home,
// clean, without "..".
func (n *Node) Bundle() string { return n.bundle }

// Venv is the virtual environment on the node, as strict as Bundle; "" when no
// attribute venv is given and no job list needs one.
func (n *Node) Venv() string { return n.venv }

// Python is the node's interpreter: a command or a path; "python3" if not given.
func (n *Node) Python() string { return n.python }

// MountPoint is where the bundle is mounted on the workstation: an absolute
// path, or "none" when there is no kernel mount.
func (n *Node) MountPoint() string { return n.mount }

// Groups are the names of the groups that the node is in, in file order.
func (n *Node) Groups() []string { return append([]string(nil), n.groups...) }

// Attr gives an attribute's value after substitution, and whether it is there.
func (n *Node) Attr(key string) (string, bool) {
	a, ok := n.attrs[key]
	if !ok {
		return "", false
	}
	return a.value, true
}

// Keys are the keys of all attributes, sorted: those of the file, "name" and
// the built-in defaults.
func (n *Node) Keys() []string {
	keys := make([]string, 0, len(n.attrs))
	for k := range n.attrs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Origin tells where an attribute's value was written; the zero Origin for a
// key that is not there.
func (n *Node) Origin(key string) Origin {
	a, ok := n.attrs[key]
	if !ok {
		return Origin{}
	}
	return a.origin
}

// keyTypes are the kinds of keys that a bare word in op_key stands for, in the
// order in which they are tried.
var keyTypes = []string{"id_ed25519-", "id_ecdsa-", "id_rsa-"}

// Key is the path of the identity file. op_key = WORD stands for the first of
// ~/.ssh/id_ed25519-WORD, id_ecdsa-WORD and id_rsa-WORD that exists; with a
// "/" or a leading "~" it is a path, relative to deploy.ini's folder if it is
// not absolute. "" without op_key. It is an error when no such file exists.
func (n *Node) Key() (string, error) {
	word, _ := n.Attr("op_key")
	if word == "" {
		return "", nil
	}
	var tries []string
	if strings.Contains(word, "/") || strings.HasPrefix(word, "~") {
		path := expandHome(word, n.home)
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(n.file.path), path)
		}
		tries = []string{path}
	} else {
		for _, t := range keyTypes {
			tries = append(tries, filepath.Join(n.home, ".ssh", t+word))
		}
	}
	for _, path := range tries {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return "", n.keyError("give the identity file in it", "%s is a folder", path)
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", n.keyError("", "identity file: %w", err)
		}
	}
	if len(tries) == 1 {
		return "", n.keyError("make the key with ssh-keygen, or correct op_key", "no identity file %s", tries[0])
	}
	return "", n.keyError("make one, such as: ssh-keygen -t ed25519 -f "+tries[0]+"; or give op_key the path of a key",
		"no identity file: there is none of %s", strings.Join(tries, ", "))
}

func (n *Node) keyError(hint, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	o := n.Origin("op_key")
	return Errors{{File: o.File, Line: o.Line, Section: o.Section, Key: o.Key, Msg: err.Error(), Hint: hint, Err: errors.Unwrap(err)}}
}

// expandHome replaces a leading "~" or "~/" by home.
func expandHome(path, home string) string {
	if path == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	return path
}
