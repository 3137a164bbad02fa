package vfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"bundlefs/fs/vfs"
)

// TestSharedStatus: what is written and not acknowledged is pending, and a read that was
// read ahead is a hit.
func TestSharedStatus(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{})
	h := l.file(t)
	l.link.Pause()
	if err := l.Write(t.Context(), h, make([]byte, 1234), 0, false); err != nil {
		t.Fatal(err)
	}
	if p := l.Status().Pending; p != (vfs.Progress{Files: 1, Bytes: 1234}) {
		t.Errorf("pending before the node has it: %+v", p)
	}
	l.link.Resume()
	if err := l.Flush(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if p := l.Status().Pending; p != (vfs.Progress{}) {
		t.Errorf("pending when the node has it: %+v", p)
	}

	const size, part = 8 << 20, 128 << 10
	if err := os.WriteFile(filepath.Join(l.node.Home, "big"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := l.Lookup(t.Context(), vfs.RootIno, "big")
	if err != nil {
		t.Fatal(err)
	}
	o, err := l.Open(t.Context(), e.Attr.Ino, uint32(os.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release(o.Handle)
	for off := int64(0); off < size; off += part {
		if n, err := l.Read(t.Context(), o.Handle, make([]byte, part), off); err != nil || n != part {
			t.Fatalf("read %d bytes, %v", n, err)
		}
	}
	if d := l.Status().Traffic.Data; d.Hits < size/part/2 || d.Hits+d.Misses != size/part {
		t.Errorf("reads: %+v, of %d", d, size/part)
	}
}
