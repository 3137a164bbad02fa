package vfs_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// overFake makes a file system of each mode over a server whose answers are made up.
func overFake(t *testing.T, f *fakeNode) map[string]func() (vfs.FileSystem, error) {
	dial := func(context.Context) (vfs.Conn, error) {
		select {
		case <-f.done:
			return nil, net.ErrClosed
		default:
			return f, nil
		}
	}
	return map[string]func() (vfs.FileSystem, error){
		"shared": func() (vfs.FileSystem, error) {
			return vfs.NewShared(t.Context(), vfs.SharedOptions{Dial: dial, Root: "/r", Sessions: 1, Timeout: 100 * time.Millisecond, NameTimeout: time.Hour, AttrTimeout: time.Hour})
		},
		"exclusive": func() (vfs.FileSystem, error) {
			return vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{Dial: dial, Root: "/r", Sessions: 1, Timeout: 100 * time.Millisecond, Spool: filepath.Join(t.TempDir(), "spool")})
		},
	}
}

// honest answers as a node with a root of one empty folder would; listing is the answer
// to a listing.
func honest(id uint32, typ byte, listing []byte, told *atomic.Bool) []byte {
	switch typ {
	case wireRealpath:
		return packet(wireName, id, u32(1), str("/r"), str(""), u32(0))
	case wireStat, wireLstat, wireFstat:
		return packet(wireAttrs, id, attrs(0, 0o40755))
	case wireOpen:
		return packet(wireHandle, id, str("h"))
	case wireOpendir:
		told.Store(false)
		return packet(wireHandle, id, str("h"))
	case wireReaddir:
		if told.Swap(true) {
			return status(id, 1)
		}
		return packet(wireName, id, listing)
	}
	return status(id, 0)
}

// Names that cannot be one entry of a folder never get to a program, and attributes
// are what a program can bear.
func TestImpossibleNames(t *testing.T) {
	entry := func(name string, size uint64, mode uint32) []byte {
		return append(append(str(name), str("")...), attrs(size, mode)...)
	}
	names := [][]byte{
		entry(".", 0, 0o40755), entry("..", 0, 0o40755), entry("", 1, 0o100644), entry("a/b", 1, 0o100644), entry("/etc", 1, 0o40755),
		entry("../x", 1, 0o100644), entry("nul\x00", 1, 0o100644), entry(strings.Repeat("x", 256), 1, 0o100644),
		entry("twice", 1, 0o100644), entry("twice", 2, 0o100644),
		entry("huge", 1<<64-1, 0o100644), entry("odd", 1, 0o170000|0o7777),
	}
	listing := u32(uint32(len(names)))
	for _, n := range names {
		listing = append(listing, n...)
	}
	for _, mode := range []string{"shared", "exclusive"} {
		t.Run(mode, func(t *testing.T) {
			var told atomic.Bool
			f := newFakeNode(func(id uint32, typ byte, _ []byte) []byte { return honest(id, typ, listing, &told) })
			defer f.wait()
			defer f.Close()
			s, err := overFake(t, f)[mode]()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			o, err := s.OpenDir(t.Context(), vfs.RootIno)
			if err != nil {
				t.Fatal(err)
			}
			defer s.ReleaseDir(o.Handle)
			entries, err := s.ReadDir(t.Context(), o.Handle, true)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name)
				if e.Attr.Size > 1<<63-1 {
					t.Errorf("%s has %d bytes", e.Name, e.Attr.Size)
				}
				switch e.Attr.Mode & vfs.TypeMask {
				case vfs.TypeRegular, vfs.TypeDir, vfs.TypeSymlink:
				default:
					if e.Name != "odd" {
						t.Errorf("%s has mode %o", e.Name, e.Attr.Mode)
					}
				}
			}
			slices.Sort(got)
			if want := []string{"huge", "odd", "twice"}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// FuzzNode has a server answer anything at all to what each mode asks: it may fail,
// and must end.
func FuzzNode(f *testing.F) {
	f.Add(byte(0), []byte{wireReaddir, wireName, 0, 0, 0, 1, 0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(byte(1), []byte{wireStat, wireAttrs, 0xff, 0xff, 0xff, 0xff})
	f.Add(byte(0), []byte{wireOpen, wireHandle, 0, 0, 1, 1})
	f.Add(byte(0), []byte{wireRead, wireData, 0xff, 0xff, 0xff, 0xff, 'x'})
	f.Add(byte(1), []byte{wireRead, wireStatus, 0, 0, 0, 1})
	f.Add(byte(0), []byte{wireLstat, wireAttrs, 0, 0, 0, 4, 0, 0, 0xa1, 0xff})
	f.Fuzz(func(t *testing.T, mode byte, lie []byte) {
		listing := append(append(append(u32(1), str("f")...), str("")...), attrs(5, 0o100644)...)
		var told atomic.Bool
		node := newFakeNode(func(id uint32, typ byte, _ []byte) []byte {
			if len(lie) > 1 && typ == lie[0] {
				return packet(lie[1], id, lie[2:])
			}
			return honest(id, typ, listing, &told)
		})
		defer node.wait()
		defer node.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := overFake(t, node)[[]string{"shared", "exclusive"}[mode%2]]()
		if err != nil {
			return
		}
		defer s.Close()
		defer node.Close() // what it refuses is not waited for
		if o, err := s.OpenDir(ctx, vfs.RootIno); err == nil {
			_, _ = s.ReadDir(ctx, o.Handle, true)
			s.ReleaseDir(o.Handle)
		}
		_, _ = s.Statfs(ctx)
		e, err := s.Lookup(ctx, vfs.RootIno, "f")
		if err != nil {
			return
		}
		_, _ = s.Getattr(ctx, e.Attr.Ino, 0)
		_, _ = s.Readlink(ctx, e.Attr.Ino)
		if o, err := s.Open(ctx, e.Attr.Ino, 0); err == nil {
			if n, _ := s.Read(ctx, o.Handle, make([]byte, 100), 0); n > 100 {
				t.Errorf("%d bytes in 100", n)
			}
			s.Release(o.Handle)
		}
		if ctx.Err() != nil {
			t.Error("it did not end")
		}
	})
}
