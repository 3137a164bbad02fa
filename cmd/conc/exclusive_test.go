package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
	"bundlefs/internal/testterm"
)

const mountDir = "bundle-hello/node1"

// onNode reads a file of the bundle on the node; "" when it is not there.
func onNode(n *testnode.Node, name string) string {
	data, _ := os.ReadFile(filepath.Join(n.Home, "bundle-hello", name))
	return string(data)
}

// write does what a program without fsync does: it has the kernel's word only.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// spools are the folders with what is not sent.
func (w *workstation) spools() []string {
	list, _ := filepath.Glob(filepath.Join(w.home, "state/bundlefs/spool-*"))
	return list
}

// The mount program is killed with changes that are only here, the link being
// cut: mounting again sends them, whichever command does it.
func TestUnsentSurvivesACrash(t *testing.T) { inBothWays(t, testUnsentSurvivesACrash) }

func testUnsentSurvivesACrash(t *testing.T, wrap []string) {
	n, link, w := newLinked(t, helloDeploy+putJobs+"\n[jobs:leave]\nunmount = local unmount\n")
	w.wrap = wrap
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	for _, args := range [][]string{{"mount", "node1"}, {"open", "node1"}, {"run", "node1", "leave"}} {
		text := strings.Join(args, " ")
		link.Drop()
		w.put("notes.txt", text)
		if wrap == nil {
			w.put("next", text)
			if err := os.Rename(filepath.Join(mount, "next"), filepath.Join(mount, "renamed")); err != nil {
				t.Fatal(err)
			}
		} else {
			w.put("renamed", text)
		}
		w.killMount()
		link.Reset()
		link.Heal()
		if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "dead") || !strings.Contains(r.stdout, "conc mount node1") {
			t.Errorf("status:\n%s", r.stdout)
		}
		if got := onNode(n, "renamed"); got == text {
			t.Errorf("%s: it was sent through a link that is cut", text)
		}
		w.must(exitOK, "", args...)
		if args[0] != "run" {
			w.must(exitOK, "everything is on the node", "sync")
		}
		for _, name := range []string{"notes.txt", "renamed"} {
			if got := onNode(n, name); got != text {
				t.Errorf("after conc %s the node has %q in %s", text, got, name)
			}
		}
	}
	if l := w.spools(); len(l) > 0 {
		t.Errorf("unmounted, with a spool: %v", l)
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// Closing a bundle whose mount was killed with unsent changes sends them before
// it removes anything, and removes nothing while it cannot.
func TestCloseSendsFirst(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	write(t, filepath.Join(mount, "notes.txt"), "old")
	w.must(exitOK, "", "sync")
	// A second name of the file on the node outlives the bundle.
	if err := os.Link(filepath.Join(n.Home, "bundle-hello/notes.txt"), filepath.Join(n.Home, "kept")); err != nil {
		t.Fatal(err)
	}
	n.Stop()
	f, err := os.OpenFile(filepath.Join(mount, "notes.txt"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r := w.must(exitError, "not on the node yet", "close")
	if !strings.Contains(r.stderr, "nothing listens on port") {
		t.Errorf("no hint in:\n%s", r.stderr)
	}
	if r := w.must(exitOK, "", "status", "--local"); !strings.Contains(r.stdout, "down: ") || !strings.Contains(r.stdout, "1 files, 3 bytes") {
		t.Errorf("status:\n%s", r.stdout)
	}
	w.killMount()
	w.must(exitError, "nothing listens on port", "close")
	w.must(exitError, "nothing listens on port", "mount", "node1")
	if l := w.spools(); len(l) != 1 {
		t.Errorf("spools: %v", l)
	}
	n.Restart()
	w.must(exitOK, "closed", "close")
	if got, err := os.ReadFile(filepath.Join(n.Home, "kept")); string(got) != "new" {
		t.Errorf("the node got %q, %v", got, err)
	}
	if l := w.spools(); len(l) > 0 {
		t.Errorf("spools: %v", l)
	}
	w.nothingLeft(n, "kept")
}

// The workstation went down: no mount and no process is there any more.
func TestAfterARestart(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy+"\n[jobs:look]\nlook = remote run cat notes.txt\n")
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	write(t, filepath.Join(mount, "notes.txt"), "old")
	w.must(exitOK, "", "sync")
	link.Drop()
	write(t, filepath.Join(mount, "notes.txt"), "kept")
	w.killMount()
	r := w.finish(w.tool("bundlefs", "unmount", mount))
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	link.Reset()
	link.Heal()
	// Nothing runs on the node before it has what was written here.
	for _, args := range [][]string{{"run", "node1", "look"}, {"shell", "node1", "--", "cat", "notes.txt"}} {
		if r := w.must(exitBlocked, "conc mount node1", args...); strings.Contains(r.stdout+r.stderr, "old") {
			t.Errorf("conc %s ran on the node as it was:\n%s%s", args[0], r.stdout, r.stderr)
		}
	}
	w.must(exitOK, "is mounted on", "open", "node1")
	w.must(exitOK, "", "sync")
	if got := onNode(n, "notes.txt"); got != "kept" {
		t.Errorf("the node has %q", got)
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// What the node refuses is named, and keeps a bundle from being closed and the
// steps from being run, until it is mended or given up.
func TestRefused(t *testing.T) { inBothWays(t, testRefused) }

func testRefused(t *testing.T, wrap []string) {
	n := testnode.Start(t, testnode.AsUser()) // root is refused nothing
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+putJobs+"\n[jobs:check]\nlook = remote run true\nsync = local sync\n")
	w.wrap = wrap
	w.must(exitOK, "open", "open", "node1")
	mount, closed := filepath.Join(w.home, mountDir), filepath.Join(n.Home, "bundle-hello/d")
	w.put("d/first", "x")
	w.must(exitOK, "", "sync")
	if err := os.Chmod(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	w.put("d/new", "kept")
	w.put("other", "goes on")

	r := w.must(exitFailed, "d/new: EACCES", "sync")
	for _, words := range []string{"bundlefs discard " + mount + " d/new", "conc close node1 --discard", "bundlefs retry " + mount} {
		if strings.Contains(words, mount) && wrap != nil {
			continue
		}
		if !strings.Contains(r.stderr, words) {
			t.Errorf("no %q in:\n%s", words, r.stderr)
		}
	}
	if wrap == nil {
		if r := w.finish(w.tool("bundlefs", "sync", mount)); r.code != 1 || !strings.Contains(r.stderr, "d/new") || !strings.Contains(r.stderr, "bundlefs: hint: mend") {
			t.Errorf("%+v", r)
		}
	}
	if got := onNode(n, "other"); got != "goes on" {
		t.Errorf("what does not depend on it: %q", got)
	}
	w.must(exitBlocked, "not unmounted: node1 refuses 1 change (kept here): d/new: EACCES", "close")
	w.must(exitBlocked, "barrier before the step", "run", "node1", "check")
	w.must(exitFailed, "sync: FAILED: node1 refuses", "run", "node1", "check", "--from", "sync")
	if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "refused") || !strings.Contains(r.stdout, "d/new: EACCES") || !strings.Contains(r.stdout, "; 1 refused") {
		t.Errorf("status:\n%s", r.stdout)
	}
	if r := w.must(exitOK, "", "status", "--json"); !strings.Contains(r.stdout, `"errno": "EACCES"`) {
		t.Errorf("status --json:\n%s", r.stdout)
	}
	// It is kept over a crash, too.
	w.killMount()
	w.must(exitBlocked, "d/new: EACCES", "close")
	// Mended.
	if err := os.Chmod(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	retry := func(path string) result { return w.finish(w.tool("bundlefs", "retry", mount, path)) }
	if w.wrap != nil {
		w.must(exitOK, "everything is on the node", "sync") // which tries again by itself
	} else if r := retry("other"); r.code == 0 || !strings.Contains(r.stderr, "retry other: nothing of it was refused") {
		t.Errorf("%+v", r)
	} else if r := retry(filepath.Join(mount, "d/new")); r.code != 0 || !strings.Contains(r.stdout, "d/new: 1 sent again") {
		t.Errorf("%+v", r)
	}
	w.must(exitOK, "everything is on the node", "sync")
	if got := onNode(n, "d/new"); got != "kept" {
		t.Errorf("the node has %q", got)
	}
	// Given up.
	if err := os.Chmod(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	w.put("d/one", "x")
	w.put("d/two", "x")
	w.must(exitBlocked, "2 changes", "close")
	r = w.must(exitOK, "2 changes given up", "close", "--discard")
	for _, words := range []string{"given up: d/one: EACCES", "given up: d/two: EACCES"} {
		if !strings.Contains(r.stderr, words) {
			t.Errorf("no %q in:\n%s", words, r.stderr)
		}
	}
	if l := w.spools(); len(l) > 0 {
		t.Errorf("spools: %v", l)
	}
	w.nothingLeft(n)
}

// Somebody breaks the lock while changes are only here: they are kept, and told of.
func TestLockLost(t *testing.T) { inBothWays(t, testLockLost) }

func testLockLost(t *testing.T, wrap []string) {
	n, link, w := newLinked(t, helloDeploy+putJobs+"\n[jobs:check]\nlook = remote run true\n")
	w.wrap = wrap
	other := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	link.Drop()
	w.put("notes.txt", "late")
	other.must(exitOK, "unlocked", "unlock", "node1", "--force")
	other.must(exitOK, "open", "open", "node1", "-m", "mine now")
	link.Reset()
	link.Heal()
	if !await(func() bool {
		return strings.Contains(w.conc("status", "--local").stdout, "lost: the bundle is not ours")
	}) {
		t.Errorf("status:\n%s", w.conc("status", "--local").stdout)
	}
	kept := w.spools()
	if len(kept) != 1 {
		t.Fatalf("spools: %v", kept)
	}
	if wrap != nil {
		write(t, filepath.Join(w.project, "put", "more"), "x")
		w.must(exitBlocked, "lock lost", "run", "node1", "put")
	} else if err := os.WriteFile(filepath.Join(mount, "more"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("written without the lock: %v", err)
	}
	if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "mine now") || !strings.Contains(r.stdout, kept[0]) {
		t.Errorf("status:\n%s", r.stdout)
	}
	for _, args := range [][]string{{"sync"}, {"close"}, {"run", "node1", "check"}} {
		r := w.must(exitBlocked, "lock lost", args...)
		for _, words := range []string{kept[0], "--forget"} {
			if !strings.Contains(r.stderr, words) {
				t.Errorf("conc %v: no %q in:\n%s", args, words, r.stderr)
			}
		}
	}
	w.killMount()
	w.must(exitBlocked, "lock lost", "mount", "node1")
	w.must(exitBlocked, "lock lost", "close")
	w.must(exitOK, "is kept in "+kept[0], "close", "--forget")
	if l := w.spools(); len(l) != 1 {
		t.Errorf("spools: %v", l)
	}
	if got := onNode(n, "notes.txt"); got != "" {
		t.Errorf("written into another's bundle: %q", got)
	}
	other.must(exitOK, "closed", "close")
	if err := os.RemoveAll(kept[0]); err != nil {
		t.Error(err)
	}
	w.nothingLeft(n) // of the first lock only the record was there
}

// The bundle was removed on the node: opening makes a new one, and says where
// is kept what never got into the old one.
func TestBundleGone(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	link.Drop()
	write(t, filepath.Join(mount, "notes.txt"), "late")
	w.killMount()
	if err := os.RemoveAll(filepath.Join(n.Home, "bundle-hello")); err != nil {
		t.Fatal(err)
	}
	link.Reset()
	link.Heal()
	w.must(exitBlocked, "it is gone from the node", "mount", "node1")
	w.must(exitBlocked, "it is gone from the node", "close")
	kept := w.spools()
	if len(kept) != 1 {
		t.Fatalf("spools: %v", kept)
	}
	w.must(exitOK, kept[0], "open", "node1")
	if _, err := os.Stat(filepath.Join(mount, "notes.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new bundle has what is of the old one: %v", err)
	}
	w.must(exitOK, "closed", "close")
	if l := w.spools(); len(l) != 1 || l[0] != kept[0] {
		t.Errorf("spools: %v", l)
	}
	w.nothingLeft(n)
}

// Ctrl-C ends the waiting for a node that cannot be heard; nothing else ends.
func TestInterruptedBarrier(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	for _, command := range []string{"sync", "close"} {
		link.Drop()
		write(t, filepath.Join(mount, command), "kept")
		keyboard, tty := testterm.Open(t)
		cmd := w.command(t.Context(), command)
		cmd.Stdout, cmd.Stderr = tty, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testterm.ReadUntil(t, keyboard, "files to go") // it waits
		cmd.Process.Signal(os.Interrupt)
		go io.Copy(io.Discard, keyboard)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("conc %s: exit code %d", command, code)
		}
		link.Reset()
		link.Heal()
		w.must(exitOK, "", "sync")
		if got := onNode(n, command); got != "kept" {
			t.Errorf("conc %s: the node has %q", command, got)
		}
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// Who unmounts by hand is not in the way: what was not sent meanwhile is waited for.
func TestUnmountedByHand(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	link.SetBandwidth(1 << 20)
	write(t, filepath.Join(mount, "big"), strings.Repeat("x", 3<<20))
	if r := w.finish(w.tool("fusermount3", "-u", mount)); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	w.must(exitOK, "is mounted on", "mount", "node1")
	if got := onNode(n, "big"); len(got) != 3<<20 {
		t.Errorf("%d bytes are on the node", len(got))
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
	if l := proc.Marked(w.mark); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

// On a terminal both programs show how far the barrier has come.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	for _, c := range []struct {
		cmd   *exec.Cmd
		words []string
	}{
		{w.command(t.Context(), "sync"), []string{"conc: node1: sync", "MiB", "files to go", "conc: node1: everything is on the node"}},
		{w.tool("bundlefs", "sync", mount), []string{"bundlefs: sync", "MiB", "files to go"}},
	} {
		link.SetBandwidth(64 << 10) // slow enough that it is not sent before the bar is there
		write(t, filepath.Join(mount, "big"), strings.Repeat(c.words[0], 4<<20/len(c.words[0])))
		keyboard, tty := testterm.Open(t)
		c.cmd.Stdout, c.cmd.Stderr = tty, tty
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testterm.ReadUntil(t, keyboard, c.words[:3]...)
		link.SetBandwidth(0)
		testterm.ReadUntil(t, keyboard, c.words[3:]...)
		go io.Copy(io.Discard, keyboard) // so that nobody waits for a reader; ends with the terminal
		if err := c.cmd.Wait(); err != nil {
			t.Error(c.cmd.Args, err)
		}
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}
