package vfs_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// TestContentMoves looks up where content is, has it cut, and reads it there: in memory and in the
// spool. Nothing may be left of what the buffer had before.
func TestContentMoves(t *testing.T) {
	n := testnode.Start(t)
	x := newExclusive(t, n.Target(), fresh(t, n.Home))
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	for name, size := range map[string]int{"memory": 1000, "spool": 200 << 10} {
		put(t, here, name, bytes.Repeat([]byte{'1'}, size))
		e, err := x.Lookup(t.Context(), vfs.RootIno, name)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Repeat([]byte{0xaa}, size)
		if err := vfs.ReadLocal(x, e.Attr.Ino, b, 0); err != nil || bytes.IndexByte(b, 0xaa) >= 0 {
			t.Errorf("%s: %v", name, err)
		}
		if err := here.Truncate(name, 10); err != nil {
			t.Fatal(err)
		}
		if err := vfs.ReadLocal(x, e.Attr.Ino, b, 0); !vfs.IsMoved(err) {
			t.Errorf("%s, cut: %v", name, err)
		}
		if err := errors.Join(here.Truncate(name, 0), here.Truncate(name, int64(size))); err != nil {
			t.Fatal(err)
		}
		if err := vfs.ReadLocal(x, e.Attr.Ino, b, 0); !vfs.IsMoved(err) {
			t.Errorf("%s, cut and longer again: %v", name, err)
		}
	}
}

// TestReadWhileCut reads files into a buffer that is used again and again while they are cut and
// written anew: what is read is of the file, or zeros.
func TestReadWhileCut(t *testing.T) {
	n := testnode.Start(t)
	x := newExclusive(t, n.Target(), fresh(t, n.Home))
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	for name, size := range map[string]int{"memory": 20 << 10, "spool": 200 << 10} {
		content := bytes.Repeat([]byte{'1'}, size)
		put(t, here, name, content)
		var over atomic.Bool
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				f, err := here.Open(name, 0, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				b := make([]byte, size)
				for !over.Load() {
					for i := range b {
						b[i] = 0xaa
					}
					got, _ := f.ReadAt(b, 0)
					if bad := bytes.IndexByte(b[:got], 0xaa); bad >= 0 {
						t.Errorf("%s: byte %d of %d is what the buffer had before", name, bad, got)
						return
					}
				}
			})
		}
		for i := range 150 {
			if err := here.Truncate(name, int64(i%2*100)); err != nil {
				t.Error(err)
			}
			put(t, here, name, content)
			if i%50 == 0 {
				if err := x.Sync(t.Context(), nil); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		over.Store(true)
		readers.Wait()
		if err := x.Sync(t.Context(), nil); err != nil || len(x.Status().Refused) > 0 {
			t.Errorf("%s: %v, %+v", name, err, x.Status().Refused)
		}
		if b, err := readTree(here, name); err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}
