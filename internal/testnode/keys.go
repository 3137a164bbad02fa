package testnode

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// newID returns 16 hexadecimal digits that no other node has.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// makeKeys makes the first host key, the client's key and authorized_keys.
func (n *Node) makeKeys() error {
	n.KeyFile = filepath.Join(n.dir, "client_key")
	client, err := newKey(n.KeyFile)
	if err != nil {
		return err
	}
	// sshd reads this as the login user.
	if err := os.WriteFile(filepath.Join(n.dir, "authorized_keys"), ssh.MarshalAuthorizedKey(client), 0o644); err != nil {
		return err
	}
	return n.makeHostKey()
}

// makeHostKey makes the host key that sshd shows from its next start on.
func (n *Node) makeHostKey() error {
	n.keys++
	key, err := newKey(n.hostKeyFile())
	if err != nil {
		return err
	}
	n.hostKey = key
	if n.trusted == nil {
		n.trusted = key
	}
	return nil
}

// hostKeyFile is another file for each key: sshd reads it anew for each connection, and a new
// key must not show before a restart.
func (n *Node) hostKeyFile() string {
	return filepath.Join(n.dir, "host_key"+strconv.Itoa(n.keys))
}

// NewHostKey makes another host key, which sshd shows from the next [Node.Restart] on. KnownHosts goes on
// listing the old one: to a client the node's key has changed.
func (n *Node) NewHostKey() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.makeHostKey(); err != nil {
		n.t.Errorf("testnode: new host key: %v", err)
	}
}

// writeKnownHosts adds a line for a port with the first host key.
func (n *Node) writeKnownHosts(port int) error {
	line := knownhosts.Line([]string{fmt.Sprintf("[127.0.0.1]:%d", port)}, n.trusted) + "\n"
	f, err := os.OpenFile(n.KnownHosts, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// newKey makes an ed25519 key, writes the private part to a file that only its owner reads, and returns the public part.
func newKey(file string) (ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "testnode")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(public)
}
