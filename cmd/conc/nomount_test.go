package main

import (
	"archive/zip"
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
	w := newWorkstation(t, n, n.TargetVia(link), product(t), withoutMount+
		"\n[jobs:put]\nnotes = local copy notes.txt\n[jobs:lone]\ncopy = local copy lone*.whl\n[jobs:lacks]\nvenv = remote venv\npip = remote pip lone*.whl\n")
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
	// What is in the bundle is looked into before the node is touched.
	bareWheel(t, w.project, "lone", "company>=2")
	w.must(exitOK, "lone: OK", "run", "node1", "lone")
	w.must(exitBlocked, "step pip: lone 1.0 needs company>=2, and there is none among the artifacts", "run", "node1", "lacks")
	if _, err := os.Stat(filepath.Join(n.Home, "venvs")); !os.IsNotExist(err) {
		t.Errorf("the node was touched: %v", err)
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
	if _, err := os.Stat(filepath.Join(w.home, "bundle-hello")); !os.IsNotExist(err) {
		t.Errorf("a folder was made for a mount: %v", err)
	}
	w.nothingLeft(n, "venvs")
}

// bareWheel writes a wheel with nothing but metadata.
func bareWheel(t *testing.T, dir, name, requires string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name+"-1.0-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	archive := zip.NewWriter(f)
	metadata, err := archive.Create(name + "-1.0.dist-info/METADATA")
	if err != nil {
		t.Fatal(err)
	}
	_, err = metadata.Write([]byte("Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\nRequires-Dist: " + requires + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
}
