// Package proc looks at the processes of the machine and signals them, without ever hitting a
// later process that got the number of an earlier one.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a process as /proc showed it. The start time tells it from a later one with the
// same number.
type Process struct {
	PID, Parent int
	State       byte   // as in proc(5): 'R', 'S', 'T', …
	Start       uint64 // clock ticks since boot
	Name        string // of the program, at most 15 bytes
}

// String returns the number and the command line.
func (p Process) String() string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	line = bytes.TrimRight(bytes.ReplaceAll(line, []byte{0}, []byte{' '}), " ")
	if len(line) == 0 {
		line = []byte(p.Name)
	}
	return fmt.Sprintf("%d %s", p.PID, line)
}

// Read reads /proc/PID/stat (proc(5)); false when there is no such Process, or only what
// is left of one that ended.
func Read(pid int) (Process, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, false
	}
	// The name is in parentheses and may hold anything.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return Process{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return Process{}, false
	}
	p := Process{PID: pid, Name: string(text[open+1 : end]), State: fields[0][0]}
	p.Parent, _ = strconv.Atoi(fields[1])
	p.Start, _ = strconv.ParseUint(fields[19], 10, 64)
	return p, p.State != 'Z' && p.State != 'X'
}

// All returns all processes of the machine that live.
func All() []Process {
	paths, _ := filepath.Glob("/proc/[0-9]*")
	var all []Process
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if p, ok := Read(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// Below returns the processes that descend from one, parents first.
func Below(pid int) []Process {
	children := map[int][]Process{}
	for _, p := range All() {
		children[p.Parent] = append(children[p.Parent], p)
	}
	var tree []Process
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		tree = append(tree, children[next[0]]...)
		for _, c := range children[next[0]] {
			next = append(next, c.PID)
		}
	}
	return tree
}

// Marked returns the processes whose environment held a NAME=VALUE when they were started. Those
// of other users show only to root.
func Marked(variable string) []Process {
	mark := []byte("\x00" + variable + "\x00")
	var found []Process
	for _, p := range All() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err == nil && bytes.Contains(append([]byte{0}, env...), mark) {
			found = append(found, p)
		}
	}
	return found
}

// Signal sends a signal if the process is still the one that was seen.
func (p Process) Signal(sig unix.Signal) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if p.Alive() {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

// Alive says whether the process is still the one that was seen, and has not ended.
func (p Process) Alive() bool {
	now, ok := Read(p.PID)
	return ok && now.Start == p.Start
}

// Living returns those that have not ended.
func Living(list []Process) []Process {
	var left []Process
	for _, p := range list {
		if p.Alive() {
			left = append(left, p)
		}
	}
	return left
}
