package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// A file that was closed here is closed on the node, on each session that it was written over, when its name is taken away: else
// its room would not be free for what is written next.
func TestRemovedIsClosed(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	s := newShared(t, n.TargetVia(link), vfs.SharedOptions{})
	link.SetRTT(40 * time.Millisecond)
	for name, remove := range map[string]func(name string) error{
		"unlink": func(name string) error { return s.Unlink(t.Context(), vfs.RootIno, name) },
		"rename": func(name string) error {
			_, o, err := s.Create(t.Context(), vfs.RootIno, "other", uint32(os.O_WRONLY), 0o644)
			if err != nil {
				return err
			}
			defer s.Release(o.Handle)
			return s.Rename(t.Context(), vfs.RootIno, "other", vfs.RootIno, name, vfs.RenameReplace)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, o, err := s.Create(t.Context(), vfs.RootIno, name, uint32(os.O_WRONLY), 0o644)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 64 {
				if err := s.Write(t.Context(), o.Handle, make([]byte, 256<<10), int64(i)*256<<10, false); err != nil {
					t.Fatal(err)
				}
			}
			s.Release(o.Handle) // its writer was interrupted, so that much is still under way
			if err := remove(name); err != nil {
				t.Fatal(err)
			}
			if open := openOnNode(t, filepath.Join(n.Home, name)); len(open) > 0 {
				t.Errorf("removed, and still open: %s", strings.Join(open, ", "))
			}
		})
	}
}

// openOnNode finds the descriptors that have a removed file open.
func openOnNode(t *testing.T, path string) (found []string) {
	t.Helper()
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if at, err := os.Readlink(fd); err == nil && at == path+" (deleted)" {
			found = append(found, fmt.Sprint(fd, " of ", at))
		}
	}
	return found
}
