package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

const rehearsed = `[DEFAULT]
bundle = b
python = /usr/bin/python3
[node:n1]
sshd.ip = 192.0.2.1
[jobs:uses]
start = local run sleep 1000 >/dev/null 2>&1 &
[jobs:away]
start = local run cd /; sleep 1000 >/dev/null 2>&1 &
[jobs:refused]
write = local run mkdir d && sync d && n=$(echo $TMPDIR/conc-node-*/home/b) && rm -r $n/d && touch $n/d && echo x > d/f
[jobs:closed]
write = local run mkdir d && chmod 500 d
[jobs:fine]
say = remote run pwd
[jobs:stays]
say = local run trap '' TERM; echo here; while :; do sleep 0.1; done
[jobs:talks]
say = local run while :; do echo here; sleep 0.1; done
`

// stageless is a workstation that rehearses, with a folder of its own for temporary ones.
func stageless(t *testing.T) (w *workstation, temp string) {
	t.Helper()
	w = newWorkstation(t, &testnode.Node{}, remote.Target{}, "", rehearsed)
	temp = filepath.Join(w.home, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "TMPDIR="+temp)
	return w, temp
}

// nothingStaged fails the test unless a rehearsal has left nothing; that no process and no
// mount is left is seen at the end of the test.
func (w *workstation) nothingStaged(temp string) {
	w.t.Helper()
	for _, dir := range []string{temp, filepath.Join(w.home, "state"), filepath.Join(w.home, "cache")} {
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && (!d.IsDir() || filepath.Dir(path) == temp) {
				w.t.Errorf("left: %s", path)
			}
			return nil
		})
	}
	for _, m := range w.mounts() {
		w.t.Errorf("left mounted: %s", m)
	}
}

// A rehearsal leaves nothing, also when its bundle cannot be closed, and says why.
func TestRehearsalLeavesNothing(t *testing.T) {
	t.Parallel()
	w, temp := stageless(t)
	for _, c := range []struct {
		list  string
		code  int
		words []string
	}{
		{"uses", exitBlocked, []string{"the bundle cannot be closed: unmount ", "sleep 1000 (cwd)", "conc: hint: it would be the same on n1", "have left processes running, which are ended: "}},
		{"away", exitOK, []string{"have left processes running, which are ended: ", "sleep 1000"}},
		{"refused", exitBlocked, []string{"the bundle cannot be closed: ", "refuses 1 change", "d/f"}},
		{"closed", exitOK, []string{"n1 - closed: b"}},
	} {
		r := w.conc("rehearse", "n1", c.list)
		for _, words := range c.words {
			if !strings.Contains(r.stderr, words) {
				t.Errorf("%s: no %q", c.list, words)
			}
		}
		if r.code != c.code || t.Failed() {
			t.Errorf("%s: exit code %d\n%s", c.list, r.code, r.stderr)
		}
		w.nothingStaged(temp)
	}
}

// TMPDIR may be relative, and may not be there.
func TestRehearsalInRelativeFolder(t *testing.T) {
	t.Parallel()
	w, temp := stageless(t)
	w.project = w.home
	write(t, filepath.Join(w.home, "deploy.ini"), rehearsed)
	w.env = append(w.env, "TMPDIR=tmp")
	r := w.must(exitOK, "fine: OK", "rehearse", "n1", "fine")
	if !strings.HasPrefix(r.stdout, temp+"/conc-node-") {
		t.Errorf("it ran in %s", r.stdout)
	}
	w.nothingStaged(temp)
	w.env = append(w.env, "TMPDIR=nosuch")
	w.must(exitError, "no such file or directory", "rehearse", "n1", "fine")
	w.nothingStaged(temp)
}

// A second Ctrl-C does not wait for what the first one has begun to end.
func TestRehearsalInterruptedTwice(t *testing.T) {
	t.Parallel()
	w, temp := stageless(t)
	r := w.start("rehearse", "n1", "stays")
	r.until("| here")
	r.Process.Signal(os.Interrupt)
	r.until("a second Ctrl-C leaves at once")
	r.Process.Signal(os.Interrupt)
	if code := r.end(); code != exitInterrupted {
		t.Errorf("exit code %d\n%s", code, r.said())
	}
	w.nothingStaged(temp)
}

// Who reads the output goes away, as head does.
func TestRehearsalUnread(t *testing.T) {
	t.Parallel()
	w, temp := stageless(t)
	if code := w.unread("say | here", func() {}, "rehearse", "n1", "talks"); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	w.nothingStaged(temp)
}

// unread runs conc with both outputs on a pipe that is read until the words and then, after
// before, closed; it gives the exit code.
func (w *workstation) unread(words string, before func(), args ...string) int {
	w.t.Helper()
	cmd := w.command(w.t.Context(), args...)
	r, out, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	out.Close()
	in := bufio.NewReader(r)
	var read strings.Builder
	for !strings.Contains(read.String(), words) {
		line, err := in.ReadString('\n')
		read.WriteString(line)
		if err == io.EOF {
			w.t.Fatalf("no %q in\n%s", words, read.String())
		}
	}
	before()
	r.Close()
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}
