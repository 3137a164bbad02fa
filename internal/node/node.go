// Package node is a throwaway node inside the program: an SSH server on the loopback interface
// with a fresh host key, a fresh client key and an empty home folder, in which commands and SFTP
// work as on a real one. `conc rehearse` tries a deploy on it, and tests use it where a real sshd is
// not needed.
//
//	n, err := node.Start()
//	defer n.Close()
//	client, err := remote.Dial(ctx, n.Target(), remote.Options{})
//
// Only the client key made for it logs in. Commands are run by /bin/sh as the user who runs the
// program, with a clean environment whose HOME is the node's. This is no sandbox: they can reach
// whatever that user can.
//
// The SFTP server is that of github.com/pkg/sftp, which differs from OpenSSH's: its extensions are
// posix-rename, hardlink and statvfs only, rename replaces an existing file, mkdir
// ignores the mode it is given, and remove and rmdir remove either kind.
package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
	"bundlefs/internal/remote"
	"bundlefs/internal/rmtree"
)

// grace is how long commands may take to end by themselves when their connection is gone.
const grace = time.Second

// Node is a running throwaway node.
type Node struct {
	Port       int    // on 127.0.0.1
	User       string // who logs in: the user who runs the program
	Home       string // absolute, without symlinks
	KeyFile    string // the private key that logs in
	KnownHosts string // a known_hosts file with the node's key

	dir      string // private; holds all files of the node
	mark     string // NAME=VALUE in the environment of every command
	observe  func(Request)
	listener net.Listener
	config   *ssh.ServerConfig
	running  sync.WaitGroup // the accept loop and the connections
	close    func() error

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	number int // of the last SFTP session
	closed bool
}

// Option changes how [Start] sets a node up.
type Option func(*Node)

// Observe has f called with every SFTP request before it is carried out, in the order in which the
// node gets them. The session waits until f returns; f is called by several sessions at once.
func Observe(f func(Request)) Option { return func(n *Node) { n.observe = f } }

// Start starts a node. The caller closes it.
func Start(opts ...Option) (*Node, error) {
	n := &Node{conns: map[net.Conn]struct{}{}}
	for _, o := range opts {
		o(n)
	}
	n.close = sync.OnceValue(n.shutDown)
	if err := n.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start a throwaway node: %w", err), n.Close())
	}
	return n, nil
}

func (n *Node) start() error {
	id := make([]byte, 8)
	rand.Read(id)
	n.mark = "CONC_THROWAWAY_NODE=" + hex.EncodeToString(id)
	n.User = "node"
	if me, err := user.Current(); err == nil { // a user without a name has none to log in with
		n.User = me.Username
	}
	var err error
	if n.dir, err = os.MkdirTemp("", "conc-node-"); err != nil {
		return err
	}
	if n.dir, err = absolute(n.dir); err != nil {
		return err
	}
	n.Home = filepath.Join(n.dir, "home")
	if err := os.Mkdir(n.Home, 0o755); err != nil {
		return err
	}
	if n.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	n.Port = n.listener.Addr().(*net.TCPAddr).Port
	if err := n.makeKeys(); err != nil {
		return err
	}
	n.running.Go(n.accept)
	return nil
}

// absolute is without symlinks; TMPDIR may be relative.
func absolute(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir, err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return dir, err
	}
	return real, nil
}

// makeKeys makes both keys, and the server's configuration from them.
func (n *Node) makeKeys() error {
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	host, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		return err
	}
	_, clientKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	client, err := ssh.NewSignerFromKey(clientKey)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(clientKey, "throwaway node")
	if err != nil {
		return err
	}
	n.KeyFile = filepath.Join(n.dir, "client_key")
	if err := os.WriteFile(n.KeyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	n.KnownHosts = filepath.Join(n.dir, "known_hosts")
	line := knownhosts.Line([]string{fmt.Sprintf("[127.0.0.1]:%d", n.Port)}, host.PublicKey())
	if err := os.WriteFile(n.KnownHosts, []byte(line+"\n"), 0o600); err != nil {
		return err
	}
	n.config = serverConfig(n.User, host, client.PublicKey())
	return nil
}

// Target says how to reach the node, past any configuration of the user.
func (n *Node) Target() remote.Target {
	return remote.Target{
		Host:         "127.0.0.1",
		Port:         n.Port,
		User:         n.User,
		IdentityFile: n.KeyFile,
		Config:       "none",
		Options: map[string]string{
			"UserKnownHostsFile": n.KnownHosts,
			"IdentitiesOnly":     "yes",
		},
	}
}

// Close ends the connections, kills every process that was started on the node, and removes its
// files. It may be called more than once.
func (n *Node) Close() error { return n.close() }

func (n *Node) shutDown() error {
	n.mu.Lock()
	n.closed = true
	if n.listener != nil {
		n.listener.Close()
	}
	for c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.running.Wait()
	var err error
	if n.mark != "" {
		err = n.killAll()
	}
	if n.dir != "" {
		err = errors.Join(err, rmtree.Remove(n.dir))
	}
	return err
}

// killAll kills what has outlived its connection: what runs in the background, in process groups
// of its own.
func (n *Node) killAll() error {
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		left := proc.Marked(n.mark)
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			p.Signal(unix.SIGKILL)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("close the throwaway node: process %v does not end", left[0])
		}
		<-tick.C
	}
}
