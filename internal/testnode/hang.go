package testnode

import (
	"strings"

	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
)

// HangServers stops (SIGSTOP) sftp-servers: the links to them stand, and nothing answers. It
// stops so many, or all that there are if most is 0. goOn lets them go on, which happens at
// the end of the test at the latest.
func (n *Node) HangServers(most int) (goOn func()) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var servers []proc.Process
	if n.server != nil { // not by their mark, which only root can see: they hide their environment
		for _, p := range proc.Below(n.server.cmd.Process.Pid) {
			if strings.HasPrefix(p.Name, "sftp-server") && (most == 0 || len(servers) < most) {
				servers = append(servers, p)
			}
		}
	}
	return n.hang(servers)
}

// HangConnections is HangServers for the processes of sshd that serve a connection.
func (n *Node) HangConnections() (goOn func()) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var serving []proc.Process
	if n.server != nil {
		for _, p := range proc.Below(n.server.cmd.Process.Pid) {
			if isServer(p) {
				serving = append(serving, p)
			}
		}
	}
	return n.hang(serving)
}

func (n *Node) hang(list []proc.Process) (goOn func()) {
	n.t.Helper()
	if len(list) == 0 {
		n.t.Fatal("testnode: there is nothing that could hang")
	}
	goOn = func() {
		for _, p := range list {
			p.Signal(unix.SIGCONT)
		}
	}
	n.t.Cleanup(goOn)
	for _, p := range list {
		p.Signal(unix.SIGSTOP)
	}
	stopped := func() bool {
		for _, p := range list {
			if now, ok := proc.Read(p.PID); ok && now.State != 'T' {
				return false
			}
		}
		return true
	}
	if !await(stopped) {
		n.t.Fatal("testnode: processes do not stop")
	}
	return goOn
}
