package main

import (
	"os"
	"path/filepath"
	"testing"

	"bundlefs/internal/testnode"
)

// TestDiscardedNames writes under names that were given up: the kernel has forgotten whose
// they were, so that what is written reaches the node, under that name and no other.
func TestDiscardedNames(t *testing.T) {
	n := testnode.Start(t, testnode.AsUser())
	w := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount, refusing := filepath.Join(w.home, mountDir), filepath.Join(n.Home, "bundle-hello/d")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(mount, "d"), 0o755))
	write(t, filepath.Join(mount, "d", "ren"), "ren")
	w.must(exitOK, "", "sync")
	must(os.Chmod(refusing, 0o555))
	write(t, filepath.Join(mount, "d", "new"), "first")
	must(os.Rename(filepath.Join(mount, "d", "ren"), filepath.Join(mount, "d", "ren2")))
	if r := w.conc("sync"); r.code == exitOK {
		t.Error("nothing is refused")
	}
	for _, p := range []string{"d/new", "d/ren2"} {
		if r := w.finish(w.tool("bundlefs", "discard", mount, p)); r.code != exitOK {
			t.Errorf("discard %s: %+v", p, r)
		}
	}
	must(os.Chmod(refusing, 0o755))
	write(t, filepath.Join(mount, "d", "new"), "second")
	write(t, filepath.Join(mount, "d", "ren2"), "other")
	w.must(exitOK, "everything is on the node", "sync")
	for name, want := range map[string]string{"d/new": "second", "d/ren2": "other", "d/ren": "ren"} {
		if got := onNode(n, name); got != want {
			t.Errorf("%s on the node: %q, want %q", name, got, want)
		}
	}
	w.must(exitOK, "closed", "close")
}
