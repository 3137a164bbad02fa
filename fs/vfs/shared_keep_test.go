package vfs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// Whether the kernel may keep a file's data from one open to the next: where another
// file of the same size and time has its name by then, where its size is another, and
// where it is the same.
func TestKeepCache(t *testing.T) {
	n := testnode.Start(t)
	long := time.Unix(1_000_000_000, 0)
	for name, c := range map[string]struct {
		o               vfs.SharedOptions
		same, grown, io bool
	}{
		"auto_cache":   {vfs.SharedOptions{}, true, false, false},
		"noauto_cache": {vfs.SharedOptions{NoAutoCache: true}, false, false, false},
		"kernel_cache": {vfs.SharedOptions{KernelCache: true}, true, true, false},
		"both":         {vfs.SharedOptions{KernelCache: true, NoAutoCache: true}, true, true, false},
		"direct_io":    {vfs.SharedOptions{DirectIO: true}, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Root = fresh(t, n.Home)
			s := newShared(t, n.Target(), c.o)
			file := filepath.Join(n.Home, c.o.Root, "f")
			put := func(text string) {
				t.Helper()
				write(t, file, text)
				if err := os.Chtimes(file, long, long); err != nil {
					t.Fatal(err)
				}
			}
			put("old")
			ino := lookup(t, s, vfs.RootIno, "f")
			opened := func() vfs.Opened {
				t.Helper()
				o, err := s.Open(t.Context(), ino, uint32(os.O_RDONLY))
				if err != nil {
					t.Fatal(err)
				}
				s.Release(o.Handle)
				return o
			}
			opened()
			put("new")
			if o := opened(); o.KeepCache != c.same || o.DirectIO != c.io {
				t.Errorf("same size and time: %+v", o)
			}
			put("longer")
			if o := opened(); o.KeepCache != c.grown || o.DirectIO != c.io {
				t.Errorf("another size: %+v", o)
			}
		})
	}
}
