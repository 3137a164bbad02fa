package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// withoutMount is helloDeploy for a workstation that mounts nothing.
var withoutMount = strings.Replace(helloDeploy, "python    =", "mount     = none\npython    =", 1)

// A whole deploy without a mount: what is delivered arrives by the process in its place, also
// when that is killed with changes that are only here.
func TestDeployWithoutMount(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	w := newWorkstation(t, n, n.TargetVia(link), product(t), withoutMount+"\n[jobs:put]\nnotes = local copy notes.txt\n")
	write(t, filepath.Join(w.project, "notes.txt"), "first")
	w.must(exitOK, "open", "open", "node1")
	w.must(exitOK, "put: OK", "run", "node1", "put")
	w.must(exitBlocked, "held by this workstation", "open", "node1")
	link.Drop()
	write(t, filepath.Join(w.project, "notes.txt"), "second")
	w.must(exitOK, "put: OK", "run", "node1", "put")
	w.killMount()
	link.Reset()
	link.Heal()
	if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "dead") {
		t.Errorf("status:\n%s", r.stdout)
	}
	w.must(exitOK, "", "mount", "node1")
	w.must(exitOK, "everything is on the node", "sync")
	if got := onNode(n, "notes.txt"); got != "second" {
		t.Errorf("the node has %q", got)
	}
	if r := w.must(exitOK, "install: OK", "install"); !strings.Contains(r.stderr, "notes | second") {
		t.Errorf("got:\n%s", r.stderr)
	}
	if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "without a mount") {
		t.Errorf("status:\n%s", r.stdout)
	}
	w.must(exitOK, "closed", "close")
	if l := w.spools(); len(l) > 0 {
		t.Errorf("spools: %v", l)
	}
	if _, err := os.Stat(filepath.Join(w.home, "bundle-1.4.2")); !os.IsNotExist(err) {
		t.Errorf("a folder was made for a mount: %v", err)
	}
	w.nothingLeft(n, "venvs")
}
