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
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	paths, inos := smallTree(t, s, home, 5, 20)
	got := trips(func() {
		for i, ino := range inos {
			if got := cat(t, s, ino); got != "content of "+paths[i] {
				t.Errorf("%s: %q", paths[i], got)
			}
		}
	})
	if got > 40 {
		t.Errorf("%d round trips for %d files", got, len(inos))
	}
}
