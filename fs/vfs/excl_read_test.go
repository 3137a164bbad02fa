package vfs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bundlefs/fs/vfs"
)

// filled makes a file on the node, without the mount.
func filled(t *testing.T, root, name string, size int) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(size), uint64(len(name))))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFetchedIsKept reads a large file and many small ones: what was read once is read
// again without the node, until something has worked on the node.
func TestFetchedIsKept(t *testing.T) {
	w, x, here := newWatched(t)
	want := map[string][]byte{"big": filled(t, w.Root, "big", 5<<20+777)}
	for i := range 40 {
		name := fmt.Sprintf("d%d/f%d", i/10, i)
		want[name] = filled(t, w.Root, name, 1000+100*i)
	}
	x.Drop()
	read := func() {
		t.Helper()
		for name, content := range want {
			if got, err := readTree(here, name); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%s: %d bytes of %d, %v", name, len(got), len(content), err)
			}
		}
	}
	read()
	if n := w.count(named("READ")); n == 0 {
		t.Fatal("the node was not asked for anything")
	}
	before := w.count(named("READ"))
	read()
	if n := w.count(named("READ")) - before; n != 0 {
		t.Errorf("the node was asked for data %d times again", n)
	}
	want["big"] = filled(t, w.Root, "big", 5<<20+778)
	x.Drop()
	read()
	if n := w.count(named("READ")) - before; n == 0 {
		t.Error("what was dropped is still there")
	}
}

// TestFilesAhead reads the small files of a tree one after the other: those that follow
// are fetched before they are asked for.
func TestFilesAhead(t *testing.T) {
	w, x, here := newWatched(t)
	const files = 60
	name := func(i int) string { return fmt.Sprintf("d%d/f%02d", i/20, i) }
	for i := range files {
		filled(t, w.Root, name(i), 3000)
	}
	x.Drop()
	for i := range 3 { // which makes the folders known
		if _, err := here.List(fmt.Sprintf("d%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		if _, err := readTree(here, name(i)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the next files to be fetched", func() bool { return w.count(named("OPEN")) >= 30 })
	for i := range files {
		if got, err := readTree(here, name(i)); err != nil || len(got) != 3000 {
			t.Fatal(name(i), len(got), err)
		}
	}
	if n := w.count(named("OPEN")); n > files+5 {
		t.Errorf("%d files opened on the node to read %d", n, files)
	}
}

// TestReadOn reads a file on and on: what was fetched ahead is taken from memory, not
// from the cache beside it, so that its memory is free for what comes next.
func TestReadOn(t *testing.T) {
	w, x, _ := newWatched(t)
	want := filled(t, w.Root, "big", 6<<20)
	x.Drop()
	e, err := x.Lookup(t.Context(), vfs.RootIno, "big")
	if err != nil {
		t.Fatal(err)
	}
	o, err := x.Open(t.Context(), e.Attr.Ino, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Release(o.Handle)
	buf := make([]byte, 128<<10)
	for off := 0; off < len(want); off += len(buf) {
		if n, err := x.Read(t.Context(), o.Handle, buf, int64(off)); err != nil || !bytes.Equal(buf[:n], want[off:off+n]) {
			t.Fatal(off, n, err)
		}
	}
	if n := vfs.Unread(x); n != 0 {
		t.Errorf("%d bytes are still in memory", n)
	}
}
