package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What was acknowledged survives that the folder for caches is cleared and the mount is killed; and
// a spool that a former version has left there is taken up.
func TestCachesAreCleared(t *testing.T) {
	for name, former := range map[string]bool{"now": false, "former": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, link, w := newLinked(t, helloDeploy)
			w.must(exitOK, "open", "open", "node1")
			link.Refuse()
			link.Reset()
			write(t, filepath.Join(w.home, mountDir, "notes.txt"), "kept")
			w.killMount()
			if former {
				w.spoolsWereIn(filepath.Join(w.home, "cache"))
			} else if err := os.RemoveAll(filepath.Join(w.home, "cache")); err != nil {
				t.Fatal(err)
			}
			link.Heal()
			w.must(exitOK, "is mounted", "mount", "node1")
			w.must(exitOK, "everything is on the node", "sync")
			if got := onNode(n, "notes.txt"); got != "kept" {
				t.Errorf("the node has %q", got)
			}
			w.must(exitOK, "closed", "close")
			w.nothingLeft(n)
		})
	}
}

// spoolsWereIn moves the spool to another folder, as if the bundle had been opened with it.
func (w *workstation) spoolsWereIn(dir string) {
	w.t.Helper()
	list := w.spools()
	if len(list) != 1 {
		w.t.Fatalf("spools: %v", list)
	}
	to := filepath.Join(dir, "bundlefs", filepath.Base(list[0]))
	states, _ := filepath.Glob(filepath.Join(w.home, "state/conc/bundles/*.json"))
	if len(states) != 1 {
		w.t.Fatalf("states: %v", states)
	}
	text, err := os.ReadFile(states[0])
	if err == nil {
		text = bytes.Replace(text, []byte(`"cache": "`+filepath.Join(w.home, "state")+`"`), []byte(`"cache": "`+dir+`"`), 1)
		err = os.WriteFile(states[0], text, 0o600)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.Rename(list[0], to)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
