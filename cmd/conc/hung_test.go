package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
)

// The mount program is stopped: nothing waits for it for ever, it is named, and mounting or closing
// ends it and goes on with what it has not sent.
func TestMountProgramHangs(t *testing.T) {
	for name, deploy := range map[string]string{"Mount": helloDeploy, "WithoutMount": withoutMount} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, link, w := newLinked(t, deploy+"\n[jobs:put]\nnotes = local copy notes.txt\n")
			write(t, filepath.Join(w.project, "notes.txt"), "kept")
			w.must(exitOK, "open", "open", "node1")
			link.Pause()
			w.must(exitOK, "put: OK", "run", "node1", "put")
			stop := func() (pid string) {
				t.Helper()
				for _, p := range proc.Marked(w.mark) {
					if isMount(p) {
						pid = strings.Fields(p.String())[0]
						t.Cleanup(func() { p.Signal(unix.SIGCONT) })
						p.Signal(unix.SIGSTOP)
					}
				}
				return pid
			}
			pid := stop()
			link.Resume()
			start := time.Now()
			if r := w.must(exitOK, "", "status", "--local"); !strings.Contains(r.stdout, "stuck") || !strings.Contains(r.stdout, pid) {
				t.Errorf("status:\n%s", r.stdout)
			}
			if r := w.conc("sync"); r.code == exitOK || !strings.Contains(r.stderr, pid) || !strings.Contains(r.stderr, "conc mount node1") {
				t.Errorf("sync: %+v", r)
			}
			w.must(exitOK, "does not answer, and is ended", "mount", "node1")
			w.must(exitOK, "everything is on the node", "sync")
			data, err := os.ReadFile(filepath.Join(n.Home, "bundle-hello", "notes.txt"))
			if err != nil || string(data) != "kept" {
				t.Errorf("on the node: %q, %v", data, err)
			}
			stop()
			w.must(exitOK, "closed", "close")
			if took := time.Since(start); took > 90*time.Second {
				t.Errorf("it took %v", took)
			}
			w.nothingLeft(n)
		})
	}
}
