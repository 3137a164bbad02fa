package vfs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"bundlefs/fs/vfs"
)

// TestSpoolSynced has what waits brought to the disk of the workstation: by itself, by
// fsync, and by the end of the mount.
func TestSpoolSynced(t *testing.T) {
	home, spool := t.TempDir(), filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(filepath.Join(home, "bundle"), 0o755); err != nil {
		t.Fatal(err)
	}
	x, do := openLocal(t, home, spool)
	release := vfs.Hold(x)
	change := func(name string) {
		t.Helper()
		put(t, do.v, name, bytes.Repeat([]byte(name), 200_000))
		put(t, do.v, name+".small", []byte(name))
	}
	change("a")
	eventually(t, "the spool is on the disk", func() bool { return !vfs.Unsynced(x) })
	change("b")
	do.must(t, op{Kind: opOpen, Path: "b", Handle: 1})
	done := make(chan error, 1)
	go func() {
		_, err := do.do(op{Kind: opFsync, Handle: 1})
		done <- err
	}()
	eventually(t, "fsync brings the spool to the disk", func() bool { return !vfs.Unsynced(x) })
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	vfs.Hold(x)
	change("c")
	do.must(t, op{Kind: opEnd})
	if vfs.Unsynced(x) {
		t.Error("the mount has ended, and its spool is not on the disk")
	}
	x, do = openLocal(t, home, spool)
	synced(t, x)
	do.must(t, op{Kind: opEnd})
}
