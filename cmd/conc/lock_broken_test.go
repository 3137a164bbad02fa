package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// Somebody breaks the lock and takes it while our link is up: from the next barrier on we
// know it, and no step runs in the other's bundle.
func TestLockBroken(t *testing.T) {
	for name, deploy := range map[string]string{"Mount": helloDeploy, "WithoutMount": withoutMount} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testnode.Start(t)
			w := newWorkstation(t, n, n.Target(), "", deploy+"\n[jobs:put]\nnotes = local copy notes.txt\n[jobs:check]\nlook = remote run touch ran\n")
			other := newWorkstation(t, n, n.Target(), "", helloDeploy)
			w.must(exitOK, "open", "open", "node1")
			w.must(exitOK, "", "sync")
			other.must(exitOK, "unlocked", "unlock", "node1", "--force")
			other.must(exitOK, "open", "open", "node1", "-m", "mine now")
			w.must(exitBlocked, "lock lost", "run", "node1", "check")
			if _, err := os.Stat(filepath.Join(n.Home, "bundle-hello", "ran")); !os.IsNotExist(err) {
				t.Errorf("the step has run: %v", err)
			}
			write(t, filepath.Join(w.project, "notes.txt"), "late")
			if r := w.conc("run", "node1", "put"); r.code == exitOK {
				t.Errorf("written without the lock: %+v", r)
			} else if !strings.Contains(r.stderr, "by hand: # the lock is lost") || strings.Contains(r.stderr, "scp") {
				t.Errorf("what is to be done by hand:\n%s", r.stderr)
			}
			for _, args := range [][]string{{"sync"}, {"close"}} {
				w.must(exitBlocked, "lock lost", args...)
			}
			if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "mine now") {
				t.Errorf("status:\n%s", r.stdout)
			}
			w.must(exitOK, "", "close", "--forget")
			other.must(exitOK, "closed", "close")
			for _, s := range []*workstation{w, other} {
				if l := s.spools(); len(l) > 0 {
					t.Errorf("spools: %v", l)
				}
			}
		})
	}
}
