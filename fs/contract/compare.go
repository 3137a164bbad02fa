package contract

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"syscall"
	"testing"
)

// Compare fails the test if two trees differ in names, types, permissions, times
// in seconds, link targets or content.
func Compare(t *testing.T, got, want Tree) {
	t.Helper()
	if err := compareDir(got, want, "."); err != nil {
		t.Error(err)
	}
}

// Difference is Compare for who wants to know more.
func Difference(got, want Tree) error { return compareDir(got, want, ".") }

func compareDir(got, want Tree, dir string) error {
	a, err := got.List(dir)
	if err != nil {
		return err
	}
	b, err := want.List(dir)
	if err != nil {
		return err
	}
	if !slices.Equal(a, b) {
		return fmt.Errorf("%s: names %q and %q", dir, a, b)
	}
	for _, name := range a {
		if err := compareName(got, want, path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func compareName(got, want Tree, p string) error {
	a, err := got.Lstat(p)
	if err != nil {
		return err
	}
	b, err := want.Lstat(p)
	if err != nil {
		return err
	}
	if a.Mode != b.Mode {
		return fmt.Errorf("%s: mode %o and %o", p, a.Mode, b.Mode)
	}
	switch a.Mode & 0o170000 {
	case 0o040000:
		return compareDir(got, want, p)
	case 0o120000:
		x, err := got.Readlink(p)
		if err != nil {
			return err
		}
		y, err := want.Readlink(p)
		if err != nil {
			return err
		}
		if x != y {
			return fmt.Errorf("%s: targets %q and %q", p, x, y)
		}
		return nil
	}
	if a.Size != b.Size {
		return fmt.Errorf("%s: %d and %d bytes", p, a.Size, b.Size)
	}
	if a.Mtime.Unix() != b.Mtime.Unix() {
		return fmt.Errorf("%s: mtime %v and %v", p, a.Mtime, b.Mtime)
	}
	return compareContent(got, want, p)
}

func compareContent(got, want Tree, p string) error {
	x, err := readAll(got, p)
	if err != nil {
		return err
	}
	y, err := readAll(want, p)
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		i := 0
		for i < len(x) && i < len(y) && x[i] == y[i] {
			i++
		}
		return fmt.Errorf("%s: contents of %d and %d bytes differ from byte %d on", p, len(x), len(y), i)
	}
	return nil
}

func readAll(t Tree, p string) ([]byte, error) {
	f, err := t.Open(p, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, a.Size+1) // one more shows that there is no more
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}
