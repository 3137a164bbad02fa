package fs

import (
	"context"
	"log/slog"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bundlefs/fs/vfs"
)

// openable is a file system of which files can be opened and made.
type openable struct {
	vfs.FileSystem
	opened vfs.Opened
}

func (o openable) Open(context.Context, vfs.Ino, uint32) (vfs.Opened, error) { return o.opened, nil }

func (o openable) Create(context.Context, vfs.Ino, string, uint32, uint32) (vfs.Entry, vfs.Opened, error) {
	return vfs.Entry{}, o.opened, nil
}

// The kernel is told with each file what it need not ask for.
func TestOpenFlags(t *testing.T) {
	for o, want := range map[vfs.Opened]uint32{
		{}:                0,
		{KeepCache: true}: fuse.FOPEN_KEEP_CACHE,
		{DirectIO: true}:  fuse.FOPEN_DIRECT_IO,
		{NoFlush: true}:   fuse.FOPEN_NOFLUSH,
	} {
		g := newGlue(openable{opened: o}, slog.New(slog.DiscardHandler), newCalls(), nil)
		var opened fuse.OpenOut
		if status := g.Open(nil, &fuse.OpenIn{}, &opened); !status.Ok() || opened.OpenFlags != want {
			t.Errorf("%+v: open has flags %#x, %v, want %#x", o, opened.OpenFlags, status, want)
		}
		var created fuse.CreateOut
		if status := g.Create(nil, &fuse.CreateIn{}, "f", &created); !status.Ok() || created.OpenFlags != want {
			t.Errorf("%+v: create has flags %#x, %v, want %#x", o, created.OpenFlags, status, want)
		}
	}
}
