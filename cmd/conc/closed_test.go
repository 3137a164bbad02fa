package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
)

// The local folder stays closed for as long as the bundle is open, by whatever the mount ended: what
// is saved there would be nowhere else.
func TestFolderStaysClosed(t *testing.T) {
	signal := func(sig unix.Signal) func(*workstation, string) {
		return func(w *workstation, _ string) {
			for _, p := range proc.Marked(w.mark) {
				if isMount(p) {
					p.Signal(sig)
				}
			}
			mustEnd(w.t, w.mark)
		}
	}
	for name, end := range map[string]func(*workstation, string){
		"TERM": signal(unix.SIGTERM), "HUP": signal(unix.SIGHUP), "KILL": signal(unix.SIGKILL),
		"unmount": func(w *workstation, mount string) {
			if out, err := w.tool("bundlefs", "unmount", mount).CombinedOutput(); err != nil {
				w.t.Fatalf("%v\n%s", err, out)
			}
			mustEnd(w.t, w.mark)
		},
		"step": func(w *workstation, _ string) { w.must(exitOK, "leave: OK", "run", "node1", "leave") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, _, w := newLinked(t, helloDeploy+"\n[jobs:leave]\nfolder = local unmount\n")
			w.must(exitOK, "open", "open", "node1")
			mount := filepath.Join(w.home, mountDir)
			end(w, mount)
			if name == "KILL" { // the dead mount is still there
				w.must(exitOK, "", "status", "--local")
				if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
					if out, err := w.tool("fusermount3", "-u", mount).CombinedOutput(); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				}
			}
			if info, err := os.Stat(mount); err != nil || info.Mode().Perm() != 0o500 {
				t.Errorf("the folder: %v, %v", info, err)
			}
			w.must(exitOK, "is mounted", "mount", "node1")
			write(t, filepath.Join(mount, "notes.txt"), "late")
			w.must(exitOK, "everything is on the node", "sync")
			if got := onNode(n, "notes.txt"); got != "late" {
				t.Errorf("the node has %q", got)
			}
			w.must(exitOK, "closed", "close")
			w.nothingLeft(n)
		})
	}
}
