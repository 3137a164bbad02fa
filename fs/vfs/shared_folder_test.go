package vfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// Who changes the names in a folder over a slow link waits for one round trip, and knows the
// folder's attributes by then.
func TestFolderIsKnownAfterOwnChanges(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	ctx := t.Context()
	for _, name := range []string{"d", "other"} {
		if err := os.Mkdir(filepath.Join(home, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d, other := lookup(t, s, vfs.RootIno, "d"), lookup(t, s, vfs.RootIno, "other")
	var file, sub vfs.Entry
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"create", func() (err error) {
			var o vfs.Opened
			if file, o, err = s.Create(ctx, d, "f", uint32(os.O_WRONLY), 0o644); err == nil {
				s.Release(o.Handle)
			}
			return err
		}},
		{"mkdir", func() (err error) { sub, err = s.Mkdir(ctx, d, "sub", 0o755); return err }},
		{"symlink", func() error { _, err := s.Symlink(ctx, d, "l", "f"); return err }},
		{"link", func() error { _, err := s.Link(ctx, file.Attr.Ino, d, "g"); return err }},
		{"rename", func() error { return s.Rename(ctx, d, "g", d, "l", vfs.RenameReplace) }},
		{"rename out", func() error { return s.Rename(ctx, d, "sub", other, "sub", vfs.RenameReplace) }},
		{"rename back", func() error { return s.Rename(ctx, other, "sub", d, "sub", vfs.RenameReplace) }},
		{"unlink", func() error { return s.Unlink(ctx, d, "f") }},
		{"rmdir", func() error { return s.Rmdir(ctx, d, "sub") }},
	} {
		old := time.Unix(1_000_000_000, 0)
		for _, name := range []string{"d", "other"} {
			if err := os.Chtimes(filepath.Join(home, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
		if got := trips(func() {
			if err := c.do(); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}); got != 1 {
			t.Errorf("%s takes %d round trips", c.name, got)
		}
		changed := map[string]vfs.Ino{"d": d}
		if c.name == "rename out" || c.name == "rename back" {
			changed["other"] = other
		}
		for name, ino := range changed {
			want, err := os.Stat(filepath.Join(home, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := trips(func() {
				if e, err := s.Getattr(ctx, ino, 0); err != nil || e.Attr.Mtime != want.ModTime().Unix()*1e9 || e.Attr.Mtime == old.UnixNano() {
					t.Errorf("%s: %s has the time %d, %v, and on the node %v", c.name, name, e.Attr.Mtime, err, want.ModTime())
				}
			}); got != 0 {
				t.Errorf("%s: the attributes of %s take %d round trips", c.name, name, got)
			}
		}
	}
	if e, err := s.Getattr(ctx, sub.Attr.Ino, 0); err == nil && e.Attr.Nlink != 0 {
		t.Errorf("a folder that was removed has %d names", e.Attr.Nlink)
	}
}

// What was made is known with its attributes at once.
func TestMadeFolderIsKnown(t *testing.T) {
	s, _, trips := slowShared(t, vfs.SharedOptions{})
	listed(t, s, vfs.RootIno)
	d, err := s.Mkdir(t.Context(), vfs.RootIno, "d", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if got := trips(func() {
		if e, err := s.Lookup(t.Context(), vfs.RootIno, "d"); err != nil || e.Attr != d.Attr {
			t.Errorf("%+v, %v, and it was made as %+v", e.Attr, err, d.Attr)
		}
	}); got != 0 {
		t.Errorf("%d round trips for what was just made", got)
	}
}

// What is known of a folder that is used, and of those above it, is renewed before it is too old.
func TestFolderInUseIsRenewed(t *testing.T) {
	s, home, _ := slowShared(t, vfs.SharedOptions{})
	if err := os.MkdirAll(filepath.Join(home, "d", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := lookup(t, s, vfs.RootIno, "d")
	sub := lookup(t, s, d, "sub")
	left := func(ino vfs.Ino) time.Duration {
		e, err := s.Getattr(t.Context(), ino, 0)
		if err != nil {
			t.Fatal(err)
		}
		return e.AttrValid
	}
	vfs.AgeListings(s, 40*time.Minute) // of an hour
	if left(d) > 20*time.Minute || left(sub) > 20*time.Minute {
		t.Fatalf("known for %v and %v", left(d), left(sub))
	}
	if err := os.Chmod(filepath.Join(home, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), sub, "none"); !os.IsNotExist(vfs.Errno(err)) {
		t.Fatal(err)
	}
	eventually(t, "both folders are known anew", func() bool { return left(d) > 30*time.Minute && left(sub) > 30*time.Minute })
	if e, err := s.Getattr(t.Context(), d, 0); err != nil || e.Attr.Mode&0o7777 != 0o700 {
		t.Errorf("mode %o, %v", e.Attr.Mode, err)
	}
}

// Who removes a tree finds the next folder listed when it comes there, and no other one.
func TestNextFolderIsListedWhenOneIsEmptied(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	const files = 6
	makeTree(t, home, 4, files)
	idle := func() {
		t.Helper()
		eventually(t, "nothing is under way", func() bool { return vfs.Behind(s) == 0 })
	}
	folders := listed(t, s, vfs.RootIno)
	listed(t, s, folders[0].Attr.Ino)
	idle()
	vfs.AgeListings(s, 2*time.Hour)
	empty := func(i int) {
		t.Helper()
		for j := range files {
			if err := s.Unlink(t.Context(), folders[i].Attr.Ino, fmt.Sprintf("f%02d", j)); err != nil {
				t.Fatal(err)
			}
		}
		idle()
	}
	empty(0)
	if err := s.Rmdir(t.Context(), vfs.RootIno, "d000"); err != nil {
		t.Fatal(err)
	}
	if got := trips(func() {
		if got := len(listed(t, s, folders[1].Attr.Ino)); got != files {
			t.Errorf("%d files", got)
		}
		lookup(t, s, vfs.RootIno, "d001")
	}); got != 0 {
		t.Errorf("the next folder takes %d round trips", got)
	}
	idle()
	if got := trips(func() { listed(t, s, folders[3].Attr.Ino) }); got == 0 {
		t.Error("a folder is listed long before it is removed")
	}
	// The last one of a folder is followed by the one behind that.
	ctx := context.Background()
	inner, err := s.Mkdir(ctx, folders[1].Attr.Ino, "sub", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Symlink(ctx, inner.Attr.Ino, "x", "y"); err != nil {
		t.Fatal(err)
	}
	listed(t, s, inner.Attr.Ino)
	if err := s.Unlink(ctx, inner.Attr.Ino, "x"); err != nil {
		t.Fatal(err)
	}
	idle()
	if got := trips(func() { listed(t, s, folders[2].Attr.Ino) }); got != 0 {
		t.Errorf("the folder behind that takes %d round trips", got)
	}
}
