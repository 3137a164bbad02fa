package testnode

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
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
	n.kill(func(proc.Process) bool { return true })
}

// KillServer does kill -9 of sshd's own processes. Commands and sftp-servers are left to notice
// that their connection is gone.
func (n *Node) KillServer() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kill(isServer)
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
func (n *Node) Processes() []string { return describe(proc.Marked(n.mark)) }

func (n *Node) stop() {
	s := n.server
	if s == nil {
		return
	}
	n.server = nil
	tree := freeze(s.cmd.Process.Pid, isServer)
	for _, p := range tree {
		p.Signal(unix.SIGTERM)
		p.Signal(unix.SIGCONT)
	}
	if !await(func() bool { return len(proc.Living(tree)) == 0 }) {
		for _, p := range tree {
			p.Signal(unix.SIGKILL)
		}
	}
	<-s.done
	n.mustEnd(tree)
}

func (n *Node) kill(which func(proc.Process) bool) {
	s := n.server
	if s == nil {
		return
	}
	n.server = nil
	var victims []proc.Process
	for _, p := range freeze(s.cmd.Process.Pid, which) {
		if which(p) {
			victims = append(victims, p)
		}
	}
	for _, p := range victims {
		p.Signal(unix.SIGKILL)
	}
	<-s.done
	n.mustEnd(victims)
}

// mustEnd waits for processes that were killed.
func (n *Node) mustEnd(tree []proc.Process) {
	if !await(func() bool { return len(proc.Living(tree)) == 0 }) {
		n.t.Errorf("testnode: processes do not end: %s", strings.Join(describe(proc.Living(tree)), "; "))
	}
}

// freeze stops a process and those of its descendants that are to be stopped, until none is left
// that could start another, and returns them all, the first one first.
func freeze(pid int, which func(proc.Process) bool) []proc.Process {
	var tree []proc.Process
	await(func() bool {
		tree = tree[:0]
		if root, ok := proc.Read(pid); ok {
			tree = append(tree, root)
		}
		tree = append(tree, proc.Below(pid)...)
		frozen := true
		for _, p := range tree {
			if which(p) && p.State != 'T' {
				p.Signal(unix.SIGSTOP)
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
	var left []proc.Process
	if !awaitFor(n.patience, func() bool { left = n.orphans(); return len(left) == 0 }) {
		n.t.Errorf("testnode: processes left on the node: %s", strings.Join(describe(left), "; "))
	}
	n.kill(func(proc.Process) bool { return true })
	left = proc.Marked(n.mark)
	for _, p := range left {
		p.Signal(unix.SIGKILL)
	}
	n.mustEnd(left)
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Errorf("testnode: %v", err)
	}
}

// orphans returns the processes of the node that no session has any more.
func (n *Node) orphans() []proc.Process {
	attached := map[int]bool{}
	if n.server != nil {
		for _, p := range proc.Below(n.server.cmd.Process.Pid) {
			attached[p.PID] = true
		}
	}
	var left []proc.Process
	for _, p := range proc.Marked(n.mark) {
		if !attached[p.PID] {
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

func describe(list []proc.Process) []string {
	var lines []string
	for _, p := range list {
		lines = append(lines, p.String())
	}
	return lines
}

// isServer says whether it is one of sshd's own processes.
func isServer(p proc.Process) bool { return strings.HasPrefix(p.Name, "sshd") }
