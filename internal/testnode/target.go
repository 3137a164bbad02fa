package testnode

import (
	"os"
	"strconv"

	"bundlefs/internal/remote"
)

// Target says how to reach the node, past any configuration of the user who runs the tests.
func (n *Node) Target() remote.Target { return n.target(n.Port) }

func (n *Node) target(port int) remote.Target {
	return remote.Target{
		Host:         "127.0.0.1",
		Port:         port,
		User:         n.User,
		IdentityFile: n.KeyFile,
		Config:       "none",
		Options: map[string]string{
			"UserKnownHostsFile": n.KnownHosts,
			"IdentitiesOnly":     "yes",
		},
	}
}

// TargetVia says how to reach the node through a link to it, and adds the link's port to KnownHosts.
func (n *Node) TargetVia(l *Link) remote.Target {
	n.t.Helper()
	n.list(l)
	return n.target(l.Port())
}

// SSHConfigVia returns the path of an ssh_config like SSHConfig that reaches the node through a
// link to it.
func (n *Node) SSHConfigVia(l *Link) string {
	n.t.Helper()
	n.list(l)
	path := n.SSHConfig + strconv.Itoa(l.Port())
	if err := os.WriteFile(path, []byte(n.sshConfig(l.Port())), 0o644); err != nil {
		n.t.Fatalf("testnode: %v", err)
	}
	return path
}

// list adds the link's port to KnownHosts, with the key that the node's own port has there.
func (n *Node) list(l *Link) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listed[l.Port()] {
		return
	}
	if err := n.writeKnownHosts(l.Port()); err != nil {
		n.t.Fatalf("testnode: %v", err)
	}
	n.listed[l.Port()] = true
}
