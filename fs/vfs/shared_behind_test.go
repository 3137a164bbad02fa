package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// Who looks up names of a folder one after the other has it listed behind, and
// again before what is known is too old.
func TestListedBehind(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	ctx := t.Context()
	for i := range 20 {
		write(t, filepath.Join(home, fmt.Sprintf("f%02d", i)), "x")
	}
	absent := func(name string) bool {
		t.Helper()
		_, err := s.Lookup(ctx, vfs.RootIno, name)
		if err != nil && !os.IsNotExist(vfs.Errno(err)) {
			t.Fatal(err)
		}
		return err != nil
	}
	isKnown := func() bool { return s.Status().Traffic.Names.Hits > 0 }
	eventually(t, "the folder is listed behind", func() bool { absent("none"); return isKnown() })
	if got := trips(func() {
		for i := range 20 {
			if absent(fmt.Sprintf("f%02d", i)) || !absent(fmt.Sprintf("g%02d", i)) {
				t.Errorf("file %d is not as on the node", i)
			}
		}
	}); got != 0 {
		t.Errorf("%d round trips for names that are known", got)
	}
	// Made here and there while it is listed once more.
	vfs.AgeListings(s, 40*time.Minute)
	write(t, filepath.Join(home, "there"), "x")
	absent("none")
	absent("none")
	if !absent("none") {
		t.Fatal("a file that is not there")
	}
	_, o, err := s.Create(ctx, vfs.RootIno, "here", uint32(os.O_WRONLY), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	s.Release(o.Handle)
	eventually(t, "the other's file is seen", func() bool { return !absent("there") })
	if got := trips(func() { absent("none") }); got != 0 {
		t.Errorf("%d round trips for a name that is not there", got)
	}
	if absent("here") {
		t.Error("what was made while the folder was listed is not there")
	}
}

// Over a fast link, too: each name that is asked for costs as much as a part of the listing.
func TestListedBehindOverAFastLink(t *testing.T) {
	s, n, a := counted(t, vfs.SharedOptions{})
	for i := range 20 {
		write(t, filepath.Join(n.Home, fmt.Sprintf("f%02d", i)), "x")
	}
	s.Ping(t.Context())
	a.since()
	eventually(t, "the folder is listed behind", func() bool {
		lookup(t, s, vfs.RootIno, "f00")
		lookup(t, s, vfs.RootIno, "f01")
		if _, err := s.Lookup(t.Context(), vfs.RootIno, "none"); !os.IsNotExist(vfs.Errno(err)) {
			t.Fatal(err)
		}
		return a.count("OPENDIR") > 0
	})
}
