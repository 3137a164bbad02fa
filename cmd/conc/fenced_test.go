package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
	"bundlefs/internal/testterm"
)

// stubborn is a script whose parts do not end by themselves: one ignores SIGTERM, one has a session
// of its own, one has lost its parent, its session and its environment on the way, and one is stopped.
const stubborn = `trap '' TERM
setsid sh -c 'trap "" TERM HUP; echo $$ >own; while :; do sleep 0.1; done' &
setsid env -i sh -c 'trap "" TERM; echo $$ >bare; while :; do sleep 0.1; done' &
(setsid sh -c 'echo $$ >orphan; exec sleep 300' &)
sh -c 'echo $$ >stopped; kill -STOP $$; sleep 300' &
echo $$ >first
while :; do sleep 0.1; done
`

// stubbornOnes waits for the processes that stubborn has started, and gives them.
func stubbornOnes(t *testing.T, n *testnode.Node) (found []proc.Process) {
	t.Helper()
	for _, name := range []string{"own", "bare", "orphan", "stopped", "first"} {
		if !await(func() bool {
			pid, err := strconv.Atoi(strings.TrimSpace(onNode(n, name)))
			p, ok := proc.Read(pid)
			if err == nil && ok {
				found = append(found, p)
			}
			return err == nil && ok
		}) {
			t.Fatalf("process %q does not run", name)
		}
	}
	return found
}

// Our step runs, our link hangs, and somebody breaks the lock: nothing of the step lives
// once he has it, and the step ends as ERROR.
func TestStepFenced(t *testing.T) {
	for name, delay := range map[string]time.Duration{"0ms": 0, "50ms": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, link, w := newLinked(t, helloDeploy+"\n[jobs:long]\nslow = remote run sh stubborn\n")
			link.SetRTT(delay)
			far := testnode.NewLink(t, n.Addr)
			far.SetRTT(delay)
			other := newWorkstation(t, n, n.TargetVia(far), "", helloDeploy)
			w.must(exitOK, "open", "open", "node1")
			write(t, filepath.Join(w.home, mountDir, "stubborn"), stubborn)
			r := w.start("run", "node1", "long")
			started := stubbornOnes(t, n)
			link.Pause()
			other.must(exitOK, "unlocked", "unlock", "node1", "--force")
			if left := proc.Living(started); len(left) > 0 {
				t.Errorf("the lock is free, and these run: %v", left)
			}
			other.must(exitOK, "open", "open", "node1")
			link.Resume()
			if code := r.end(); code != exitError || !strings.Contains(r.said(), "slow: ERROR: lock lost to ") || !strings.Contains(r.said(), "(since 20") {
				t.Errorf("exit code %d\n%s", code, r.said())
			}
			steps, _ := filepath.Glob(filepath.Join(n.Home, ".conc-step-*"))
			if len(steps) > 0 {
				t.Errorf("left: %v", steps)
			}
			w.must(exitOK, "", "close", "--forget")
			other.must(exitOK, "closed", "close")
		})
	}
}

// Conc was killed under a step, whose agent does not notice it: closing ends the step.
func TestCloseEndsSteps(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+"\n[jobs:long]\nslow = remote run sh stubborn\n")
	w.must(exitOK, "open", "open", "node1")
	write(t, filepath.Join(w.home, mountDir, "stubborn"), stubborn)
	r := w.start("run", "node1", "long")
	started := stubbornOnes(t, n)
	agent, ok := proc.Read(started[len(started)-1].Parent)
	if !ok {
		t.Fatal("no agent")
	}
	agent.Signal(syscall.SIGSTOP)
	r.Process.Kill()
	r.end()
	w.must(exitOK, "closed", "close")
	if left := proc.Living(append(started, agent)); len(left) > 0 {
		t.Errorf("the lock is free, and these run: %v", left)
	}
	w.nothingLeft(n)
}

// terminals tells whether the node gives any: an sshd of an ordinary user cannot.
var terminals = os.Getuid() == 0

// outputOf gives a terminal, both of its ends; or a pipe, where the node has none.
func outputOf(t *testing.T) (here, there *os.File) {
	t.Helper()
	if terminals {
		return testterm.Open(t)
	}
	here, there, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// An open shell is ended in the same way, also one that ignores SIGTERM as interactive shells do.
func TestShellFenced(t *testing.T) {
	for name, c := range map[string]struct {
		delay time.Duration
		args  []string
		typed string
	}{
		"command, 0ms":      {0, []string{"--", "sh", "stubborn"}, ""},
		"command, 50ms":     {50 * time.Millisecond, []string{"--", "sh", "stubborn"}, ""},
		"interactive, 50ms": {50 * time.Millisecond, nil, "sh stubborn\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !terminals && c.args == nil {
				return
			}
			n, link, w := newLinked(t, helloDeploy)
			link.SetRTT(c.delay)
			other := newWorkstation(t, n, n.Target(), "", helloDeploy)
			w.must(exitOK, "open", "open", "node1")
			write(t, filepath.Join(w.home, mountDir, "stubborn"), stubborn)
			keyboard, tty := outputOf(t)
			cmd := w.command(t.Context(), append([]string{"shell", "node1"}, c.args...)...)
			if cmd.Stdout, cmd.Stderr = tty, tty; terminals {
				cmd.Stdin = tty
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.typed != "" {
				if _, err := keyboard.WriteString(c.typed); err != nil {
					t.Fatal(err)
				}
			}
			started := stubbornOnes(t, n)
			link.Pause()
			other.must(exitOK, "unlocked", "unlock", "node1", "--force")
			if left := proc.Living(started); len(left) > 0 {
				t.Errorf("the lock is free, and these run: %v", left)
			}
			other.must(exitOK, "open", "open", "node1")
			link.Resume()
			testterm.ReadUntil(t, keyboard, "lock lost to ")
			go io.Copy(io.Discard, keyboard)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != exitError {
				t.Errorf("exit code %d", code)
			}
			w.must(exitOK, "", "close", "--forget")
			other.must(exitOK, "closed", "close")
		})
	}
}

// A shell has its terminal, its exit code and its signals, and leaves nothing on the node.
func TestShellUnderTheLock(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	for line, code := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "test -f .conc-owner.json": 0, "test -t 0": 1} {
		if r := w.conc("shell", "node1", "--", "sh", "-c", line); r.code != code {
			t.Errorf("%s: exit code %d, want %d\n%s", line, r.code, code, r.stderr)
		}
	}
	if terminals {
		shellOnTerminal(t, w)
	}
	if names, _ := filepath.Glob(filepath.Join(n.Home, ".conc-step-*")); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// shellOnTerminal looks at the size of the terminal, and interrupts.
func shellOnTerminal(t *testing.T, w *workstation) {
	t.Helper()
	keyboard, tty := testterm.Open(t)
	cmd := w.command(t.Context(), "shell", "node1", "--", "sh", "-c", `echo at $(stty size); trap 'echo interrupted; exit 5' INT; echo begun; while :; do sleep 0.1; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testterm.ReadUntil(t, keyboard, "at 24 80", "begun")
	if _, err := keyboard.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	testterm.ReadUntil(t, keyboard, "interrupted")
	go io.Copy(io.Discard, keyboard)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

// rooted gives a bundle in which a step runs something as root by these rules of sudo, in a session of its own.
func rooted(t *testing.T, rules string) (n *testnode.Node, w *workstation, r *running, child proc.Process) {
	t.Helper()
	n = testnode.Start(t, testnode.WithSudo(rules))
	w = newWorkstation(t, n, n.Target(), "", helloDeploy+"\n[jobs:root]\nserve = remote sudo --no-password /usr/bin/python3 serve.py\n")
	w.must(exitOK, "open", "open", "node1")
	write(t, filepath.Join(w.home, mountDir, "serve.py"), rootChild)
	r = w.start("run", "node1", "root")
	if !await(func() (ok bool) {
		pid, err := strconv.Atoi(onNode(n, "child"))
		child, ok = proc.Read(pid)
		return err == nil && ok
	}) {
		t.Fatalf("it does not run:\n%s", r.said())
	}
	t.Cleanup(func() { child.Signal(9) })
	return n, w, r, child
}

// Where sudo lets it, the agent ends as root what it has started as root.
func TestRootFenced(t *testing.T) {
	if os.Getuid() != 0 { // only root can let somebody use sudo
		return
	}
	t.Parallel()
	n, w, r, child := rooted(t, "USER ALL=(ALL) NOPASSWD: ALL")
	other := newWorkstation(t, n, n.Target(), "", helloDeploy)
	other.must(exitOK, "unlocked", "unlock", "node1", "--force")
	if child.Alive() {
		t.Error("root's process runs")
	}
	other.must(exitOK, "open", "open", "node1")
	if code := r.end(); code != exitError || !strings.Contains(r.said(), "lock lost") {
		t.Errorf("exit code %d\n%s", code, r.said())
	}
	w.must(exitOK, "", "close", "--forget")
	other.must(exitOK, "closed", "close")
}

// What cannot be ended is named, and the bundle stays locked until it is told to let it run on.
func TestUnlockLeaves(t *testing.T) {
	if os.Getuid() != 0 { // TestEndStepsRefused of package bundle needs no root
		return
	}
	t.Parallel()
	n, w, r, child := rooted(t, "USER ALL=(ALL) NOPASSWD: /usr/bin/python3")
	other := newWorkstation(t, n, n.Target(), "", helloDeploy)
	for range 2 { // also when what it descends from is gone
		refused := other.must(exitBlocked, fmt.Sprintf("could not be ended: pid %d (sleep 4321)", child.PID), "unlock", "node1", "--force")
		if !strings.Contains(refused.stderr, fmt.Sprintf("conc unlock node1 --force --leave %d", child.PID)) {
			t.Errorf("no hint in\n%s", refused.stderr)
		}
		other.must(exitBlocked, "is held by", "open", "node1")
	}
	if code := r.end(); code != exitError {
		t.Errorf("exit code %d\n%s", code, r.said())
	}
	w.must(exitBlocked, "lock lost", "run", "node1", "root")
	other.must(exitOK, "unlocked", "unlock", "node1", "--force", "--leave", strconv.Itoa(child.PID))
	other.must(exitOK, "open", "open", "node1")
	if !child.Alive() {
		t.Error("it was ended")
	}
	w.must(exitOK, "", "close", "--forget")
	other.must(exitOK, "closed", "close")
}

// rootChild starts something in a session of its own and waits for it.
const rootChild = `import os
if os.fork() == 0:
    os.setsid()
    with open("child", "w") as f:
        f.write(str(os.getpid()))
    os.execvp("sleep", ["sleep", "4321"])
os.wait()
`
