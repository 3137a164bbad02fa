package vfs_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// Of a file that was written and closed nothing stays in memory but its name and attributes.
func TestClosedFilesTakeNoMemory(t *testing.T) {
	n := testnode.Start(t)
	s := newShared(t, n.Target(), vfs.SharedOptions{})
	ctx := t.Context()
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what the first one leaves in pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, data := heap(), make([]byte, 200<<10)
	const files = 100
	for i := range files {
		_, o, err := s.Create(ctx, vfs.RootIno, fmt.Sprint("f", i), uint32(os.O_WRONLY), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(ctx, o.Handle, data, 0, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(ctx, o.Handle); err != nil {
			t.Fatal(err)
		}
		s.Release(o.Handle)
	}
	if known := s.Status().Inodes; known <= files {
		t.Fatalf("%d files are known", known)
	}
	eventually(t, "what was written is let go", func() bool { return heap()-before < files*int64(len(data))/4 })
}
