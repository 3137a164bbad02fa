package testnode

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stop ends the node as a shutdown does: the listener, the sessions and what runs in them are
// asked to end, and killed when they do not. A stopped node refuses connections. Stop, Kill,
// KillServer and Restart may be called from any goroutine.
func (n *Node) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stop()
}

// Kill ends the node as a power cut does: kill -9 of the listener, the sessions and what runs in
// them, all at the same moment.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kill(func(process) bool { return true })
}

// KillServer does kill -9 of sshd's own processes. Commands and sftp-servers are left to notice
// that their connection is gone.
func (n *Node) KillServer() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kill(process.isServer)
}

// Restart starts the node again on the same port, with the same keys unless
// [Node.NewHostKey] was called; it stops the node before when it still runs.
func (n *Node) Restart() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stop()
	if err := n.writeServerConfig(); err != nil {
		n.t.Errorf("testnode: restart: %v", err)
		return
	}
	var err error
	await(func() bool {
		err = n.launch()
		return !errors.Is(err, errAddressInUse)
	})
	if err != nil {
		n.t.Errorf("testnode: restart: %v", err)
	}
}

// Processes returns what runs on the node, one "PID COMMAND LINE" each: commands and
// sftp-servers, not sshd itself, and not what has cleared its environment.
func (n *Node) Processes() []string { return describe(marked(n.id)) }

func (n *Node) stop() {
	s := n.server
	if s == nil {
		return
	}
	n.server = nil
	tree := freeze(s.cmd.Process.Pid, process.isServer)
	for _, p := range tree {
		p.signal(unix.SIGTERM)
		p.signal(unix.SIGCONT)
	}
	if !await(func() bool { return ended(tree) }) {
		for _, p := range tree {
			p.signal(unix.SIGKILL)
		}
	}
	<-s.done
	n.mustEnd(tree)
}

func (n *Node) kill(which func(process) bool) {
	s := n.server
	if s == nil {
		return
	}
	n.server = nil
	var victims []process
	for _, p := range freeze(s.cmd.Process.Pid, which) {
		if which(p) {
			victims = append(victims, p)
		}
	}
	for _, p := range victims {
		p.signal(unix.SIGKILL)
	}
	<-s.done
	n.mustEnd(victims)
}

// mustEnd waits for processes that were killed.
func (n *Node) mustEnd(tree []process) {
	if !await(func() bool { return ended(tree) }) {
		n.t.Errorf("testnode: processes do not end: %s", strings.Join(describe(living(tree)), "; "))
	}
}

// freeze stops a process and those of its descendants that are to be stopped, until none is left
// that could start another, and returns them all, the first one first.
func freeze(pid int, which func(process) bool) []process {
	var tree []process
	await(func() bool {
		tree = tree[:0]
		if root, ok := readProcess(pid); ok {
			tree = append(tree, root)
		}
		tree = append(tree, below(pid)...)
		frozen := true
		for _, p := range tree {
			if which(p) && p.state != 'T' {
				p.signal(unix.SIGSTOP)
				frozen = false
			}
		}
		return frozen
	})
	return tree
}

// cleanup ends the node with the test.
func (n *Node) cleanup() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.t.Failed() {
		n.t.Logf("testnode: the end of sshd's log on %s:\n%s", n.Addr, n.logTail(60))
	}
	// What outlives its session was left behind by what the test tested. It may still be ending.
	var left []process
	if !awaitFor(n.patience, func() bool { left = n.orphans(); return len(left) == 0 }) {
		n.t.Errorf("testnode: processes left on the node: %s", strings.Join(describe(left), "; "))
	}
	n.kill(func(process) bool { return true })
	left = marked(n.id)
	for _, p := range left {
		p.signal(unix.SIGKILL)
	}
	n.mustEnd(left)
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Errorf("testnode: %v", err)
	}
}

// orphans returns the processes of the node that no session has any more.
func (n *Node) orphans() []process {
	attached := map[int]bool{}
	if n.server != nil {
		for _, p := range below(n.server.cmd.Process.Pid) {
			attached[p.pid] = true
		}
	}
	var left []process
	for _, p := range marked(n.id) {
		if !attached[p.pid] {
			left = append(left, p)
		}
	}
	return left
}

// logTail returns the last lines of sshd's log.
func (n *Node) logTail(count int) string {
	lines := strings.Split(strings.TrimSuffix(n.log(0), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// await polls a condition until it holds, and says whether it did in time.
func await(condition func() bool) bool { return awaitFor(startTimeout, condition) }

func awaitFor(timeout time.Duration, condition func() bool) bool {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			return false
		case <-poll.C:
		}
	}
	return true
}

func living(tree []process) []process {
	var left []process
	for _, p := range tree {
		if p.alive() {
			left = append(left, p)
		}
	}
	return left
}

func ended(tree []process) bool { return len(living(tree)) == 0 }

func describe(list []process) []string {
	var lines []string
	for _, p := range list {
		lines = append(lines, p.String())
	}
	return lines
}
