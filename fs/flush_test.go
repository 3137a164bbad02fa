package fs

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bundlefs/fs/vfs"
)

// openable is a file system of which files can be opened.
type openable struct{ vfs.FileSystem }

func (openable) Open(context.Context, vfs.Ino, uint32) (vfs.Opened, error) {
	return vfs.Opened{Handle: 7}, nil
}

// close(2) asks for nothing where nothing can have been written, and waits for what was.
func TestOnlyWritersFlush(t *testing.T) {
	g := newGlue(openable{}, slog.New(slog.DiscardHandler), nil)
	for flags, flushes := range map[int]bool{os.O_RDONLY: false, os.O_WRONLY: true, os.O_RDWR: true, os.O_WRONLY | os.O_APPEND: true} {
		var out fuse.OpenOut
		if status := g.Open(nil, &fuse.OpenIn{Flags: uint32(flags)}, &out); !status.Ok() {
			t.Fatal(status)
		}
		if got := out.OpenFlags&fuse.FOPEN_NOFLUSH == 0; got != flushes {
			t.Errorf("flags %o: flushed %v", flags, got)
		}
	}
}
