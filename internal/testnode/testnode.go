// Package testnode gives tests and benchmarks a real node to work on: an OpenSSH sshd on a
// free loopback port with its own keys, configuration, home folder and sftp-server, and a link
// to put in front of it that adds delay, limits the rate and breaks in all the usual ways.
//
//	n := testnode.Start(t)
//	l := testnode.NewLink(t, n.Addr)
//	l.SetRTT(50 * time.Millisecond)
//	client, err := remote.Dial(ctx, n.TargetVia(l), remote.Options{})
//
// Everything ends with the test, and the test fails when a process started on the node is
// left behind then.
//
// When the tests run as root, sshd runs in a mount namespace of its own, whose user database
// gives the login user the node's home. That login user is root, or with [AsUser] an ordinary
// user. When the tests run as an ordinary user, or no mount namespace can be had, sshd logs in
// that very user, and a forced command sets HOME and the working folder.
//
// The package is for tests and benchmarks only.
package testnode

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Node is a running sshd. The fields do not change while it lives, Stop, Kill and Restart
// included.
type Node struct {
	Port       int    // the port of sshd on 127.0.0.1
	Addr       string // 127.0.0.1:Port
	Home       string // the login user's home folder, an absolute path without symlinks
	User       string // the login user
	KeyFile    string // the private key that logs in
	KnownHosts string // a known_hosts file that lists the first host key
	SSHConfig  string // an ssh_config for ssh -F and sshfs -F; the host is called "node"

	t        testing.TB
	opts     options
	dir      string        // everything of this node but a home that was given
	mark     string        // NAME=VALUE in the environment of every process that runs on the node
	sshd     string        // absolute path of the sshd program
	uid      int           // of the login user
	patience time.Duration // how long what has lost its session may take to end
	private  bool          // sshd runs in a mount namespace of its own

	mu      sync.Mutex    // guards what follows
	server  *server       // the running listener, nil when stopped
	hostKey ssh.PublicKey // what the next start of sshd shows
	keys    int           // host keys made so far
	trusted ssh.PublicKey // what KnownHosts lists
	listed  map[int]bool  // link ports listed in KnownHosts
}

// Start starts a node and stops it when the test ends. It fails the test when that cannot be
// done.
func Start(t testing.TB, opts ...Option) *Node {
	t.Helper()
	n := &Node{t: t, mark: "TESTNODE_ID=" + newID(), patience: 5 * time.Second, listed: map[int]bool{}}
	for _, o := range opts {
		o(&n.opts)
	}
	if err := n.prepare(); err != nil {
		if n.dir != "" {
			os.RemoveAll(n.dir)
		}
		t.Fatalf("testnode: %v", err)
	}
	t.Cleanup(n.cleanup)
	if err := n.startOnFreePort(); err != nil {
		t.Fatalf("testnode: %v", err)
	}
	return n
}

// prepare makes the folder, the keys and the files that do not depend on the port.
func (n *Node) prepare() error {
	var err error
	if n.sshd, err = findProgram("sshd", "/usr/sbin", "/usr/local/sbin", "/usr/lib/ssh", "/sbin"); err != nil {
		return fmt.Errorf("%w: install openssh-server", err)
	}
	// Not t.TempDir: only its owner can enter that, and the login user must reach the home.
	if n.dir, err = os.MkdirTemp("", "node-"); err != nil {
		return err
	}
	if n.dir, err = filepath.EvalSymlinks(n.dir); err != nil {
		return err
	}
	if err := os.Chmod(n.dir, 0o755); err != nil {
		return err
	}
	if err := n.chooseUser(); err != nil {
		return err
	}
	if err := n.makeHome(); err != nil {
		return err
	}
	if err := n.makeKeys(); err != nil {
		return err
	}
	n.SSHConfig = filepath.Join(n.dir, "ssh_config")
	n.KnownHosts = filepath.Join(n.dir, "known_hosts")
	return nil
}

// chooseUser decides who logs in, and whether a mount namespace gives that user the home.
func (n *Node) chooseUser() error {
	me, err := user.Current()
	if err != nil {
		return fmt.Errorf("who runs the tests: %w", err)
	}
	n.User, n.uid = me.Username, os.Getuid()
	n.private = n.uid == 0 && canUnshare() == nil
	if n.uid != 0 || !n.opts.ordinary {
		return nil
	}
	if !n.private {
		return fmt.Errorf("an ordinary login needs a mount namespace: %w", canUnshare())
	}
	n.User, n.uid = ordinaryUser, ordinaryUID
	return nil
}

func (n *Node) makeHome() error {
	n.Home = n.opts.home
	if n.Home == "" {
		n.Home = filepath.Join(n.dir, "home")
		if err := os.Mkdir(n.Home, 0o755); err != nil {
			return err
		}
	}
	var err error
	if n.Home, err = filepath.Abs(n.Home); err != nil {
		return err
	}
	if n.Home, err = filepath.EvalSymlinks(n.Home); err != nil {
		return err
	}
	if n.uid == os.Getuid() {
		return nil
	}
	for dir := filepath.Dir(n.Home); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("home %s: user %s cannot enter %s", n.Home, n.User, dir)
		}
		if dir == "/" {
			return os.Chown(n.Home, n.uid, n.uid)
		}
	}
}

// HostKey returns the key that sshd shows since its last start, or will show at its next one
// after [Node.NewHostKey].
func (n *Node) HostKey() ssh.PublicKey {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hostKey
}

// setPort sets what follows from the port, and writes the files that name it.
func (n *Node) setPort(port int) error {
	n.Port = port
	n.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := n.writeKnownHosts(port); err != nil {
		return err
	}
	if err := os.WriteFile(n.SSHConfig, []byte(n.sshConfig(port)), 0o644); err != nil {
		return err
	}
	return n.writeServerConfig()
}

// sshConfig returns the text of an ssh_config that reaches the node through a port.
func (n *Node) sshConfig(port int) string {
	return strings.Join([]string{
		"Host node 127.0.0.1 localhost",
		"  HostName 127.0.0.1",
		"  Port " + strconv.Itoa(port),
		"  User " + n.User,
		"  IdentityFile " + n.KeyFile,
		"  IdentitiesOnly yes",
		"  UserKnownHostsFile " + n.KnownHosts,
		"  GlobalKnownHostsFile /dev/null",
		"  StrictHostKeyChecking yes",
		"  BatchMode yes",
		"",
	}, "\n")
}

// findProgram returns the absolute path of a program that is on PATH or in one of the folders.
func findProgram(name string, folders ...string) (string, error) {
	folders = slices.Concat(filepath.SplitList(os.Getenv("PATH")), folders)
	for _, f := range folders {
		path := filepath.Join(f, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("find %s in %s: not there", name, strings.Join(folders, ":"))
}
