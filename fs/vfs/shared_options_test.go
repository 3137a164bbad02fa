package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// What is read beside what is asked for, by option.
func TestNoReadahead(t *testing.T) {
	for name, c := range map[string]struct {
		o     vfs.SharedOptions
		ahead bool
	}{
		"default":      {vfs.SharedOptions{}, true},
		"no_readahead": {vfs.SharedOptions{NoReadahead: true}, false},
		"direct_io":    {vfs.SharedOptions{DirectIO: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, n, a := counted(t, c.o)
			write(t, filepath.Join(n.Home, "f"), strings.Repeat("x", 1<<20))
			o, err := s.Open(t.Context(), lookup(t, s, vfs.RootIno, "f"), uint32(os.O_RDONLY))
			if err != nil {
				t.Fatal(err)
			}
			a.since()
			for i := range int64(4) {
				if k, err := s.Read(t.Context(), o.Handle, make([]byte, 4096), 4096*i); err != nil || k != 4096 {
					t.Fatalf("%d bytes, %v", k, err)
				}
			}
			s.Release(o.Handle)
			if err := s.Close(); err != nil { // nothing is under way any more
				t.Error(err)
			}
			if got := a.count("READ"); (got != 4) != c.ahead {
				t.Errorf("%d reads for 4 that were asked for", got)
			}
		})
	}
}

// With sshfs_sync the node has what was written when the call returns.
func TestSyncWrites(t *testing.T) {
	s, n, _ := counted(t, vfs.SharedOptions{SyncWrites: true})
	_, o, err := s.Create(t.Context(), vfs.RootIno, "f", uint32(os.O_WRONLY), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(o.Handle)
	for _, text := range []string{"first", "second"} {
		if err := s.Write(t.Context(), o.Handle, []byte(text), 0, false); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(n.Home, "f")); err != nil || string(got) != text {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
}

// close(2) waits for what was written in shared mode, and never in exclusive mode.
func TestNoFlush(t *testing.T) {
	n := testnode.Start(t)
	s := newShared(t, n.Target(), vfs.SharedOptions{})
	x := newLeased(t)
	y, err := x.mount("ours")
	x.must(err)
	defer func() { x.must(y.Close()) }()
	for flags, behind := range map[int]bool{os.O_RDONLY: true, os.O_WRONLY: false, os.O_RDWR | os.O_APPEND: false} {
		for files, want := range map[vfs.FileSystem]bool{s: behind, y: true} {
			e, o, err := files.Create(t.Context(), vfs.RootIno, fmt.Sprint("f", flags), uint32(flags), 0o644)
			x.must(err)
			files.Release(o.Handle)
			again, err := files.Open(t.Context(), e.Attr.Ino, uint32(flags))
			x.must(err)
			files.Release(again.Handle)
			if o.NoFlush != want || again.NoFlush != want {
				t.Errorf("%T, flags %o: created %v, opened %v, want %v", files, flags, o.NoFlush, again.NoFlush, want)
			}
		}
	}
}
