package fs_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dirent is an entry as getdents64(2) gives it.
type dirent struct {
	name string
	next int64 // where the next one is
}

// getdents reads entries from where the folder stands, none at its end.
func getdents(t *testing.T, fd int) []dirent {
	t.Helper()
	buf := make([]byte, 8192)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	var l []dirent
	for b := buf[:n]; len(b) > 0; {
		size := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := strings.Cut(string(b[19:size]), "\x00")
		l = append(l, dirent{name, int64(binary.NativeEndian.Uint64(b[8:]))})
		b = b[size:]
	}
	return l
}

func largeFolder(t *testing.T, _ *mount, dir, onNode string) {
	const count = 5000
	want := []string{".", ".."}
	for i := range count {
		name := fmt.Sprintf("file %04d", i)
		write(t, filepath.Join(onNode, name), "")
		want = append(want, name)
	}
	seen(t, filepath.Join(dir, want[len(want)-1]))
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	var all []dirent
	for l := getdents(t, fd); len(l) > 0; l = getdents(t, fd) {
		all = append(all, l...)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.name)
	}
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Fatalf("%d entries, want %d", len(names), len(want))
	}
	// telldir and seekdir
	for _, i := range []int{0, 1, 2, 17, count / 2, count} {
		if _, err := unix.Seek(fd, all[i].next, 0); err != nil {
			t.Fatal(err)
		}
		if l := getdents(t, fd); len(l) == 0 || l[0].name != all[i+1].name {
			t.Errorf("behind entry %d: %v, want %s", i, l, all[i+1].name)
		}
	}
	// rewinddir shows what is new
	write(t, filepath.Join(onNode, "new"), "")
	eventually(t, "a new name is seen after rewinding", func() bool {
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			t.Fatal(err)
		}
		found := false
		for l := getdents(t, fd); len(l) > 0; l = getdents(t, fd) {
			found = found || slices.ContainsFunc(l, func(e dirent) bool { return e.name == "new" })
		}
		return found
	})
}

// Names that are removed while the folder is read do not come back by what was
// listed of them before.
func removeWhileListing(t *testing.T, _ *mount, dir, onNode string) {
	const count = 400
	for i := range count {
		write(t, filepath.Join(onNode, fmt.Sprintf("file %04d", i)), "")
	}
	seen(t, filepath.Join(dir, fmt.Sprintf("file %04d", count-1)))
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := getdents(t, int(f.Fd()))
	for i := range count {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("file %04d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for l := first; len(l) > 0; l = getdents(t, int(f.Fd())) {
		for _, e := range l {
			if e.name == "." || e.name == ".." {
				continue
			}
			if _, err := os.Lstat(filepath.Join(dir, e.name)); !os.IsNotExist(err) {
				t.Fatalf("%s is removed, and yet %v", e.name, err)
			}
		}
	}
}
