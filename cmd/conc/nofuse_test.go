package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withoutFUSE is the beginning of a command line that runs a program which can mount nothing: root without the right
// to mount, anybody else without the programs that have more rights than who starts them, such as fusermount3.
func withoutFUSE() []string {
	if os.Getuid() == 0 {
		return []string{"setpriv", "--bounding-set=-sys_admin", "--"}
	}
	return []string{"setpriv", "--no-new-privs", "--"}
}

// inBothWays runs a test on a workstation that mounts, and on one that cannot: its commands begin with wrap.
func inBothWays(t *testing.T, test func(t *testing.T, wrap []string)) {
	for name, wrap := range map[string][]string{"mount": nil, "no FUSE": withoutFUSE()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, wrap)
		})
	}
}

// putJobs is the job list with which put delivers where there is no mount.
const putJobs = "\n[jobs:put]\nfiles = local copy put/*\n"

// put writes a file of the bundle as programs do that do not call fsync, or delivers it where there is no mount.
func (w *workstation) put(name, text string) {
	w.t.Helper()
	dir := filepath.Join(w.home, mountDir)
	if w.wrap != nil {
		dir = filepath.Join(w.project, "put")
		if err := os.RemoveAll(dir); err != nil {
			w.t.Fatal(err)
		}
	}
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	write(w.t, file, text)
	if w.wrap != nil {
		w.must(exitOK, "put: OK", "run", "node1", "put")
	}
}

// toldOnce fails the test unless the lack of FUSE was told of when the bundle was opened, and then no more.
func (w *workstation) toldOnce() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	want := 0
	if w.wrap != nil {
		want = 1
	}
	if n := strings.Count(w.said.String(), "no FUSE here"); n != want {
		w.t.Errorf("told %d times that there is no FUSE, want %d:\n%s", n, want, w.said.String())
	}
}

func TestRehearseWithoutFUSE(t *testing.T) {
	runScript(t, "testdata/script/rehearse.txtar", withoutFUSE())
}
