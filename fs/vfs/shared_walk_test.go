package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
)

// asked counts the requests that a node gets, by name.
type asked struct {
	mu sync.Mutex
	n  map[string]int
}

func (a *asked) observe(r node.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n[r.Name]++
}

// since returns the counts and begins anew.
func (a *asked) since() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.n
	a.n = map[string]int{}
	return n
}

func (a *asked) count(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n[name]
}

// counted is a file system over a node that counts its requests.
func counted(t *testing.T, o vfs.SharedOptions) (*vfs.Shared, *node.Node, *asked) {
	t.Helper()
	a := &asked{n: map[string]int{}}
	n, err := node.Start(node.Observe(a.observe))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return newShared(t, n.Target(), o), n, a
}

// listed lists a folder as ls -l does; it returns what is in it.
func listed(t *testing.T, s *vfs.Shared, ino vfs.Ino) []vfs.Entry {
	t.Helper()
	o, err := s.OpenDir(t.Context(), ino)
	if err != nil {
		t.Fatal(err)
	}
	defer s.ReleaseDir(o.Handle)
	names, err := s.ReadDir(t.Context(), o.Handle, true)
	if err != nil {
		t.Fatal(err)
	}
	var entries []vfs.Entry
	for _, name := range names {
		e, ok := s.Instantiate(o.Handle, name)
		if !ok {
			if e, err = s.Lookup(t.Context(), ino, name.Name); err != nil {
				t.Fatal(err)
			}
		}
		if e, err = s.Getattr(t.Context(), e.Attr.Ino, 0); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// tree makes folders with files in dir.
func makeTree(t *testing.T, dir string, folders, files int) {
	t.Helper()
	for i := range folders {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%02d", j)), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Who walks through a tree asks for each folder once and for no file, and the
// folders are listed ahead.
func TestWalk(t *testing.T) {
	s, n, a := counted(t, vfs.SharedOptions{})
	makeTree(t, n.Home, 50, 5)
	a.since()
	folders := listed(t, s, vfs.RootIno)
	if got := a.count("OPENDIR"); got != 1 {
		t.Errorf("%d folders were listed when a program has listed one", got)
	}
	listed(t, s, folders[0].Attr.Ino)
	eventually(t, "all folders were listed ahead", func() bool { return a.count("OPENDIR") == 51 })
	for range 2 {
		files := 0
		for _, f := range folders {
			files += len(listed(t, s, f.Attr.Ino))
		}
		if files != 50*5 {
			t.Errorf("%d files", files)
		}
	}
	if got := a.since(); got["OPENDIR"] != 51 || got["LSTAT"]+got["STAT"]+got["FSTAT"] != 0 {
		t.Errorf("requests %v, want 51 listings and no question beside", got)
	}
	if m := s.Status().Traffic; m.Listings.Misses != 2 {
		t.Errorf("listings %+v, want two that the node was asked for", m.Listings)
	}
}

// However many folders are below one, all of them are listed ahead.
func TestLongWalk(t *testing.T) {
	s, n, a := counted(t, vfs.SharedOptions{})
	makeTree(t, n.Home, 500, 0)
	a.since()
	for _, f := range listed(t, s, vfs.RootIno) {
		listed(t, s, f.Attr.Ino)
		eventually(t, "what is listed ahead is there", func() bool { return vfs.Behind(s) == 0 })
	}
	if got := a.count("OPENDIR"); got != 501 {
		t.Errorf("%d listings of 501 folders", got)
	}
	if m := s.Status().Traffic; m.Listings.Misses != 2 {
		t.Errorf("listings %+v, want two that the node was asked for", m.Listings)
	}
}

func TestWalkWithoutAhead(t *testing.T) {
	for name, o := range map[string]vfs.CacheOptions{"off": {Off: true}, "not ahead": {NoAhead: true}} {
		t.Run(name, func(t *testing.T) {
			s, n, a := counted(t, vfs.SharedOptions{Cache: o})
			makeTree(t, n.Home, 10, 1)
			a.since()
			folders := listed(t, s, vfs.RootIno)
			listed(t, s, folders[0].Attr.Ino)
			listed(t, s, folders[1].Attr.Ino)
			if err := s.Close(); err != nil { // nothing is under way any more
				t.Error(err)
			}
			if got := a.count("OPENDIR"); got != 3 {
				t.Errorf("%d folders were listed, and a program has listed 3", got)
			}
		})
	}
}

// The root folder of the node is not listed as a name in itself when its attributes are known.
func TestListRoot(t *testing.T) {
	s, _, _ := counted(t, vfs.SharedOptions{Root: "/"})
	for range 2 {
		o, err := s.OpenDir(t.Context(), vfs.RootIno)
		if err != nil {
			t.Fatal(err)
		}
		names, err := s.ReadDir(t.Context(), o.Handle, true)
		if err != nil {
			t.Fatal(err)
		}
		s.ReleaseDir(o.Handle)
		if slices.ContainsFunc(names, func(e vfs.DirEntry) bool { return e.Name == "/" }) {
			t.Error("the root is listed in itself")
		}
		if _, err := s.Getattr(t.Context(), vfs.RootIno, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// What this mount does needs no question: names that are not there before they
// are made, and attributes of what was just made.
func TestOwnNamesAreKnown(t *testing.T) {
	s, n, a := counted(t, vfs.SharedOptions{})
	ctx := t.Context()
	listed(t, s, vfs.RootIno)
	a.since()
	if _, err := s.Lookup(ctx, vfs.RootIno, "d"); !os.IsNotExist(err) && vfs.Errno(err) == 0 {
		t.Fatal(err)
	}
	d, err := s.Mkdir(ctx, vfs.RootIno, "d", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := s.Lookup(ctx, d.Attr.Ino, name); vfs.Errno(err) == 0 {
			t.Fatalf("%s is there", name)
		}
		if _, err := s.Symlink(ctx, d.Attr.Ino, name, "target"); err != nil {
			t.Fatal(err)
		}
		if e, err := s.Lookup(ctx, d.Attr.Ino, name); err != nil || e.Attr.Mode&vfs.TypeMask != vfs.TypeSymlink {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if err := s.Rename(ctx, d.Attr.Ino, "a", vfs.RootIno, "c", vfs.RenameReplace); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlink(ctx, d.Attr.Ino, "b"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := s.Lookup(ctx, d.Attr.Ino, name); vfs.Errno(err) == 0 {
			t.Fatalf("%s is still there", name)
		}
	}
	if e, err := s.Lookup(ctx, vfs.RootIno, "c"); err != nil || e.Attr.Mode&vfs.TypeMask != vfs.TypeSymlink {
		t.Fatalf("%+v, %v", e, err)
	}
	got := a.since()
	// An LSTAT goes out with each request that makes a name, and once more where the
	// server, which answers in any order, had it first.
	if got["LSTAT"] > 6 || got["OPENDIR"] != 0 {
		t.Errorf("requests %v", got)
	}
	if _, err := os.Lstat(filepath.Join(n.Home, "c")); err != nil {
		t.Error(err)
	}
}

// What is changed on the node is seen when the time is over.
func TestChangeOnTheNodeIsSeen(t *testing.T) {
	n, err := node.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	const timeout = 100 * time.Millisecond
	s, err := vfs.NewShared(t.Context(), vfs.SharedOptions{Dial: dial(n.Target()), NameTimeout: timeout, AttrTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(n.Home, "f")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := listed(t, s, vfs.RootIno)[0].Attr.Ino
	if err := os.WriteFile(file, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Home, "g"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new size is seen", func() bool {
		e, err := s.Getattr(t.Context(), f, 0)
		if err != nil {
			t.Fatal(err)
		}
		if e.AttrValid > timeout {
			t.Errorf("the kernel may believe it for %v", e.AttrValid)
		}
		return e.Attr.Size == 7
	})
	eventually(t, "the new name is seen", func() bool {
		_, err := s.Lookup(t.Context(), vfs.RootIno, "g")
		return err == nil
	})
	if err := os.WriteFile(file, []byte("changed again"), 0o644); err != nil {
		t.Fatal(err)
	}
	// On open, at once.
	o, err := s.Open(t.Context(), f, uint32(os.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(o.Handle)
	if e, err := s.Getattr(t.Context(), f, 0); err != nil || e.Attr.Size != 13 {
		t.Errorf("after open: %+v, %v", e, err)
	}
}
