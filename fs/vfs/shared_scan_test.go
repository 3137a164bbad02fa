package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// Who lists a folder that is too long to be remembered, and then looks at each name, does not
// ask the node for each; a name that was looked at already is asked for.
func TestLongFolderIsLookedAtWithoutAskingForEachName(t *testing.T) {
	const names = 3000
	n := testnode.Start(t)
	l := testnode.NewLink(t, n.Addr)
	s := newShared(t, n.TargetVia(l), vfs.SharedOptions{
		AttrTimeout: time.Minute, NameTimeout: time.Minute, Cache: vfs.CacheOptions{Max: 100},
	})
	ctx := t.Context()
	name := func(i int) string { return fmt.Sprintf("f%04d", i) }
	for i := range names {
		write(t, filepath.Join(n.Home, name(i)), "x")
	}
	d, err := s.OpenDir(ctx, vfs.RootIno)
	if err != nil {
		t.Fatal(err)
	}
	defer s.ReleaseDir(d.Handle)
	if got, err := s.ReadDir(ctx, d.Handle, true); err != nil || len(got) < names {
		t.Fatal(len(got), err)
	}
	before := l.Counters().RoundTrips[0]
	for i := range names {
		lookup(t, s, vfs.RootIno, name(i*7%names)) // in any order
	}
	if trips := l.Counters().RoundTrips[0] - before; trips > names/50 {
		t.Fatalf("%d round trips for %d names", trips, names)
	}
	changed := name(5)
	if err := os.WriteFile(filepath.Join(n.Home, changed), []byte("longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Lookup(ctx, vfs.RootIno, changed); err != nil || e.Attr.Size != 6 {
		t.Fatalf("looked at again: %d, %v, want 6", e.Attr.Size, err)
	}
}
