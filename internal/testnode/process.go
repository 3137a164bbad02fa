package testnode

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// idName is the environment variable that marks what runs on a node.
const idName = "TESTNODE_ID"

// process is a process as /proc showed it. The start time tells it from a later one with the
// same number.
type process struct {
	pid, ppid int
	state     byte
	start     uint64 // clock ticks since boot
	comm      string
}

// String returns the number and the command line.
func (p process) String() string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	line = bytes.TrimRight(bytes.ReplaceAll(line, []byte{0}, []byte{' '}), " ")
	if len(line) == 0 {
		line = []byte(p.comm)
	}
	return fmt.Sprintf("%d %s", p.pid, line)
}

// readProcess reads /proc/PID/stat (proc(5)); false when there is no such process, or only what
// is left of one that ended.
func readProcess(pid int) (process, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// The name is in parentheses and may hold anything.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return process{}, false
	}
	p := process{pid: pid, comm: string(text[open+1 : end]), state: fields[0][0]}
	p.ppid, _ = strconv.Atoi(fields[1])
	p.start, _ = strconv.ParseUint(fields[19], 10, 64)
	return p, p.state != 'Z' && p.state != 'X'
}

// processes returns all processes of the machine that live.
func processes() []process {
	paths, _ := filepath.Glob("/proc/[0-9]*")
	var all []process
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// below returns the processes that descend from one, parents first.
func below(pid int) []process {
	children := map[int][]process{}
	for _, p := range processes() {
		children[p.ppid] = append(children[p.ppid], p)
	}
	var tree []process
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		tree = append(tree, children[next[0]]...)
		for _, c := range children[next[0]] {
			next = append(next, c.pid)
		}
	}
	return tree
}

// marked returns the processes that carry the id in their environment.
func marked(id string) []process {
	mark := []byte(idName + "=" + id)
	var found []process
	for _, p := range processes() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err == nil && bytes.Contains(env, mark) {
			found = append(found, p)
		}
	}
	return found
}

// signal sends a signal if the process is still the one that was seen.
func (p process) signal(sig unix.Signal) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if p.alive() {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

// alive says whether the process is still the one that was seen, and has not ended.
func (p process) alive() bool {
	now, ok := readProcess(p.pid)
	return ok && now.start == p.start
}

// isServer says whether it is one of sshd's own processes.
func (p process) isServer() bool { return strings.HasPrefix(p.comm, "sshd") }
