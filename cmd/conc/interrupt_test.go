package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"bundlefs/internal/journal"
	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
)

const talkative = `
[jobs:long]
sleep = remote run sleep 1000 & echo $$ $! > pids; echo started; wait
[jobs:talks]
say = remote run sleep 1000 & echo $$ $! > pids; while :; do echo here; sleep 0.1; done
[jobs:much]
lines = remote run seq 200000
`

// running is a conc that is not waited for.
type running struct {
	*exec.Cmd
	w *workstation

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// start starts conc; what it writes to both outputs is kept.
func (w *workstation) start(args ...string) *running {
	w.t.Helper()
	r := &running{Cmd: w.command(w.t.Context(), args...), w: w}
	r.Stdout, r.Stderr = r, r
	if err := r.Start(); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// until waits until it has said something.
func (r *running) until(words string) {
	r.w.t.Helper()
	if !await(func() bool { return strings.Contains(r.said(), words) }) {
		r.w.t.Errorf("no %q in\n%s", words, r.said())
	}
}

// end waits for its end and gives the exit code.
func (r *running) end() int {
	r.Wait()
	return r.ProcessState.ExitCode()
}

// processes are those of the step that wrote their numbers.
func processes(t *testing.T, n *testnode.Node) []proc.Process {
	t.Helper()
	var list []proc.Process
	for _, word := range strings.Fields(onNode(n, "pids")) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := proc.Read(pid)
		if !ok {
			t.Fatalf("process %d of the step does not run", pid)
		}
		list = append(list, p)
	}
	if len(list) != 2 {
		t.Fatalf("the step's processes are %v", list)
	}
	return list
}

// events reads the journal.
func (w *workstation) events() []journal.Event {
	w.t.Helper()
	list, err := journal.New(filepath.Join(w.home, "state", "conc")).Read(func(*journal.Event) bool { return true })
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// stopped fails the test unless the journal ends with the end of a run that was stopped.
func (w *workstation) stopped(step string) {
	w.t.Helper()
	var kinds []string
	for _, e := range w.events() {
		kinds = append(kinds, fmt.Sprint(e.Kind, " ", e.Step, " ", e.Status))
	}
	want := []string{"step end " + step + " STOPPED", "run end " + step + " STOPPED"}
	if len(kinds) < 2 || !slices.Equal(kinds[len(kinds)-2:], want) {
		w.t.Errorf("the journal has %q, want its end to be %q", kinds, want)
	}
}

// Ctrl-C halts the step that runs, and ends it on the node with all that it started.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+talkative)
	w.must(exitOK, "open", "open", "node1")
	r := w.start("run", "node1", "long")
	r.until("| started")
	started := processes(t, n)
	w.must(exitBlocked, "works on it now", "close")
	r.Process.Signal(os.Interrupt)
	if code := r.end(); code != exitInterrupted || !strings.Contains(r.said(), "sleep STOPPED") || !strings.Contains(r.said(), "conc run node1 long --from sleep") {
		t.Errorf("exit code %d\n%s", code, r.said())
	}
	if left := proc.Living(started); len(left) > 0 {
		t.Errorf("left on the node: %v", left)
	}
	w.stopped("sleep")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// The second Ctrl-C does not wait for a node that does not answer.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy+talkative)
	w.must(exitOK, "open", "open", "node1")
	r := w.start("run", "node1", "long")
	r.until("| started")
	started := processes(t, n)
	link.Drop()
	r.Process.Signal(os.Interrupt)
	r.until("a second Ctrl-C leaves at once")
	r.Process.Signal(os.Interrupt)
	if code := r.end(); code != exitInterrupted || strings.Contains(r.said(), "STOPPED") {
		t.Errorf("exit code %d\n%s", code, r.said())
	}
	link.Reset()
	link.Heal()
	if !await(func() bool { return len(proc.Living(started)) == 0 }) {
		t.Errorf("left on the node: %v", proc.Living(started))
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// Conc is killed: the log shows the step that nobody knows the end of.
func TestKilled(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+talkative)
	w.must(exitOK, "open", "open", "node1")
	r := w.start("run", "node1", "long")
	r.until("| started")
	started := processes(t, n)
	if r := w.must(exitOK, "", "log"); !strings.Contains(r.stdout, "running  long sleep: remote run") {
		t.Errorf("log:\n%s", r.stdout)
	}
	r.Process.Kill()
	r.end()
	for _, args := range [][]string{{"log"}, {"status"}} {
		if r := w.must(exitOK, "", args...); !strings.Contains(r.stdout, "UNKNOWN") || !strings.Contains(r.stdout, "long sleep") {
			t.Errorf("%s:\n%s", args, r.stdout)
		}
	}
	if !await(func() bool { return len(proc.Living(started)) == 0 }) {
		t.Errorf("left on the node: %v", proc.Living(started))
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// Who reads the output goes away, as head does: the run is halted as by Ctrl-C.
func TestUnread(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+talkative)
	w.must(exitOK, "open", "open", "node1")
	for _, c := range [][]string{{"say | here"}, {`"line":"here"`, "--json"}} {
		var started []proc.Process
		code := w.unread(c[0], func() { started = processes(t, n) }, append([]string{"run", "node1", "talks"}, c[1:]...)...)
		if left := proc.Living(started); code != exitInterrupted || len(left) > 0 {
			t.Errorf("%v: exit code %d, left on the node: %v", c, code, left)
		}
		w.stopped("say")
	}
	// What only shows something ends in silence.
	if code := w.unread("bundle", func() {}, "show", "node1"); code != exitOK && code != exitInterrupted {
		t.Errorf("show: exit code %d", code)
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// maxMemory is what conc may need whatever a step writes, in KiB; that of the race detector is in it.
const maxMemory = 128 << 10

// Many lines: none is lost, and conc does not keep them.
func TestManyLines(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+talkative)
	w.must(exitOK, "open", "open", "node1")
	for _, form := range []string{"plain", "json"} {
		args := []string{"run", "node1", "much"}
		if form == "json" {
			args = append(args, "--json")
		}
		cmd := w.command(t.Context(), args...)
		var pipe interface{ Read([]byte) (int, error) }
		var err error
		if form == "json" {
			pipe, err = cmd.StdoutPipe()
		} else {
			pipe, err = cmd.StderrPipe()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		next, memory := 1, 0
		for in := bufio.NewScanner(pipe); in.Scan(); {
			_, line, ok := strings.Cut(in.Text(), "lines | ")
			if form == "json" {
				var e jsonEvent
				if err := json.Unmarshal(in.Bytes(), &e); err != nil {
					t.Fatalf("%q: %v", in.Text(), err)
				}
				if ok = e.Event == "output"; ok {
					line = *e.Line
				}
			}
			if !ok {
				continue
			}
			if line != strconv.Itoa(next) {
				t.Fatalf("%s: got %q, want %d", form, line, next)
			}
			if next == 190000 { // what is left does not fit into the pipe: conc has not ended
				memory = peak(t, cmd.Process.Pid)
			}
			next++
		}
		if err := cmd.Wait(); err != nil || next != 200001 {
			t.Errorf("%s: %d lines, %v", form, next-1, err)
		}
		t.Logf("%s: %d KiB", form, memory)
		if memory == 0 || memory > maxMemory {
			t.Errorf("%s: conc took %d KiB", form, memory)
		}
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// peak is the most memory that a process had, in KiB.
func peak(t *testing.T, pid int) (kib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fmt.Sscan(rest, &kib)
	return kib
}
