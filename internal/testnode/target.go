package testnode

import "bundlefs/internal/remote"

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
