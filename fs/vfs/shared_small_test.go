package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// smallTree makes folders of small files, an hour old, and lists them; it returns
// the files in the order in which programs read them.
func smallTree(t *testing.T, s *vfs.Shared, home string, folders, files int) (paths []string, inos []vfs.Ino) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for d := range folders {
		dir := filepath.Join(home, fmt.Sprintf("d%02d", d))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range files {
			p := filepath.Join(dir, fmt.Sprintf("f%02d", f))
			write(t, p, "content of "+p)
			if err := os.Chtimes(p, old, old); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, p)
		}
	}
	for _, dir := range listed(t, s, vfs.RootIno) {
		if dir.Attr.Mode&vfs.TypeMask == vfs.TypeDir {
			for _, f := range listed(t, s, dir.Attr.Ino) {
				inos = append(inos, f.Attr.Ino)
			}
		}
	}
	if len(inos) != len(paths) {
		t.Fatalf("%d of %d files are listed", len(inos), len(paths))
	}
	return paths, inos
}

// cat reads a file as cat does.
func cat(t *testing.T, s *vfs.Shared, ino vfs.Ino) string {
	t.Helper()
	o, err := s.Open(t.Context(), ino, uint32(os.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(o.Handle)
	got := make([]byte, 4096)
	n, err := s.Read(t.Context(), o.Handle, got, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(got[:n])
}

// Who reads the small files of a tree one after the other has the next ones fetched ahead.
func TestSmallFilesAhead(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{KernelCache: true})
	paths, inos := smallTree(t, s, home, 5, 20)
	got := trips(func() {
		for i, ino := range inos {
			if got := cat(t, s, ino); got != "content of "+paths[i] {
				t.Errorf("%s: %q", paths[i], got)
			}
		}
	})
	if got >= int64(len(inos)) { // it would be two for each
		t.Errorf("%d round trips for %d files", got, len(inos))
	}
}

// fetchedAhead reads files one after the other until the next ones were fetched ahead,
// and returns the number of the first that was not read.
func fetchedAhead(t *testing.T, s *vfs.Shared, inos []vfs.Ino) int {
	t.Helper()
	for i, ino := range inos {
		cat(t, s, ino)
		if s.Status().Traffic.Data.Hits > 0 {
			eventually(t, "nothing is on its way", func() bool { return vfs.Inflight(s) == 0 && vfs.FetchedAhead(s) > 3 })
			return i + 1
		}
	}
	t.Fatal("nothing was fetched ahead")
	return 0
}

// pause takes a program as long as doing something on the node does.
func pause(t *testing.T, s *vfs.Shared) {
	t.Helper()
	for range 3 {
		s.Ping(t.Context())
	}
}

// Who does something on the node between two files finds it done, whatever was fetched ahead.
func TestChangedAfterItWasFetchedAhead(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{KernelCache: true})
	paths, inos := smallTree(t, s, home, 1, 20)
	next := fetchedAhead(t, s, inos)
	write(t, paths[next], "CONTENT OF "+paths[next])
	pause(t, s)
	if got := cat(t, s, inos[next]); got != "CONTENT OF "+paths[next] {
		t.Errorf("%q", got)
	}
	// What was not changed has to be asked for, but not fetched again.
	next++
	if got := trips(func() {
		if got := cat(t, s, inos[next]); got != "content of "+paths[next] {
			t.Errorf("%q", got)
		}
	}); got != 1 {
		t.Errorf("%d round trips for a file that was fetched ahead a while ago", got)
	}
}

// What is changed through the mount is seen at once.
func TestChangedHereAfterItWasFetchedAhead(t *testing.T) {
	s, home, _ := slowShared(t, vfs.SharedOptions{KernelCache: true})
	_, inos := smallTree(t, s, home, 1, 20)
	ctx := t.Context()
	next := fetchedAhead(t, s, inos)
	reader, err := s.Open(ctx, inos[next], uint32(os.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(reader.Handle)
	change := func(ino vfs.Ino) {
		t.Helper()
		o, err := s.Open(ctx, ino, uint32(os.O_WRONLY))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release(o.Handle)
		if err := s.Write(ctx, o.Handle, []byte("CONTENT"), 0, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(ctx, o.Handle); err != nil {
			t.Fatal(err)
		}
	}
	change(inos[next])
	change(inos[next+1])
	got := make([]byte, 7)
	if n, err := s.Read(ctx, reader.Handle, got, 0); err != nil || string(got[:n]) != "CONTENT" {
		t.Errorf("who has it open reads %q, %v", got[:n], err)
	}
	if got := cat(t, s, inos[next+1]); got[:7] != "CONTENT" {
		t.Errorf("who opens it reads %q", got)
	}
}

// A file that was opened without asking the node goes on to be there for who has it
// open when it is removed, or another takes its name.
func TestFetchedAheadAndRemoved(t *testing.T) {
	s, home, _ := slowShared(t, vfs.SharedOptions{KernelCache: true})
	paths, inos := smallTree(t, s, home, 1, 60)
	ctx := t.Context()
	dir := lookup(t, s, vfs.RootIno, "d00")
	next := 0
	unasked := func() (i int, h vfs.Handle) {
		t.Helper()
		for ; next < len(inos); next++ {
			o, err := s.Open(ctx, inos[next], uint32(os.O_RDONLY))
			if err != nil {
				t.Fatal(err)
			}
			if !vfs.IsOpenOnNode(s, o.Handle) {
				next++
				return next - 1, o.Handle
			}
			if _, err := s.Read(ctx, o.Handle, make([]byte, 4096), 0); err != nil {
				t.Fatal(err)
			}
			s.Release(o.Handle)
		}
		t.Fatal("no file is opened without asking the node")
		return 0, 0
	}
	for _, lose := range []func(name string) error{
		func(name string) error { return s.Unlink(ctx, dir, name) },
		func(name string) error { return s.Rename(ctx, dir, "f00", dir, name, vfs.RenameReplace) },
	} {
		i, h := unasked()
		ino, p := inos[i], paths[i]
		if err := lose(filepath.Base(p)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4096)
		if n, err := s.Read(ctx, h, got, 0); err != nil || string(got[:n]) != "content of "+p {
			t.Errorf("read %q, %v", got[:n], err)
		}
		if e, err := s.Getattr(ctx, ino, h); err != nil || e.Attr.Size != uint64(len("content of "+p)) {
			t.Errorf("stat: %+v, %v", e.Attr, err)
		}
		s.Release(h)
	}
}

// What is fetched ahead and not used does not grow without bound.
func TestFetchedAheadIsBounded(t *testing.T) {
	s, home, _ := slowShared(t, vfs.SharedOptions{KernelCache: true})
	for i := range 200 {
		write(t, filepath.Join(home, fmt.Sprintf("f%03d", i)), string(make([]byte, 60<<10)))
	}
	var inos []vfs.Ino
	for _, f := range listed(t, s, vfs.RootIno) {
		inos = append(inos, f.Attr.Ino)
	}
	for i, ino := range inos {
		if got := len(cat(t, s, ino)); got != 4096 {
			t.Fatalf("file %d: %d bytes", i, got)
		}
		if got := vfs.FetchedAheadBytes(s); got > 4<<20 {
			t.Fatalf("%d bytes are kept", got)
		}
	}
}

// Without kernel_cache each open asks the node, and who walks through a tree sees what was changed
// there a moment before.
func TestEachOpenAsks(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	paths, inos := smallTree(t, s, home, 1, 40)
	half := len(inos) / 2
	got := trips(func() {
		for i, ino := range inos[:half] {
			if got := cat(t, s, ino); got != "content of "+paths[i] {
				t.Errorf("%s: %q", paths[i], got)
			}
		}
	})
	if got > int64(half+half/2) { // one for each, but for the first few
		t.Errorf("%d round trips for %d files", got, half)
	}
	for i, ino := range inos[half:] {
		p := paths[half+i]
		write(t, p, "CONTENT OF "+p)
		if got := cat(t, s, ino); got != "CONTENT OF "+p {
			t.Errorf("%s: %q", p, got)
		}
	}
}
