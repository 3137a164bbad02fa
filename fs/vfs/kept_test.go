package vfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestWrittenIsKept writes more small files than memory holds: reading them asks the node for nothing,
// until something has worked on the node.
func TestWrittenIsKept(t *testing.T) {
	w, x, here := newWatched(t)
	content := func(i, turn int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%d %d.", i, turn)), 20_000)[:60_000] }
	name := func(i int) string { return fmt.Sprint("file", i) }
	const files = 300
	for i := range files {
		put(t, here, name(i), content(i, 0))
	}
	synced(t, x)
	put(t, here, name(7), content(7, 1))
	synced(t, x)
	read := func(turn int) {
		t.Helper()
		for i := range files {
			want := content(i, 0)
			if i == 7 {
				want = content(i, turn)
			}
			if got, err := readTree(here, name(i)); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes, %v", name(i), len(got), err)
			}
		}
	}
	read(1)
	if n := w.count(named("READ")); n != 0 {
		t.Errorf("the node was asked for data %d times", n)
	}
	if err := os.WriteFile(filepath.Join(w.Root, name(7)), content(7, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	x.Drop()
	read(2)
}
