package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// TestNames gives each kind of name to each call that takes one, in both modes. A hidden name of ours
// would vanish and be taken for a leftover, with all that is in it.
func TestNames(t *testing.T) {
	n := testnode.Start(t)
	for mode, files := range map[string]func(root string) vfs.FileSystem{
		"shared":    func(root string) vfs.FileSystem { return newShared(t, n.Target(), vfs.SharedOptions{Root: root}) },
		"exclusive": func(root string) vfs.FileSystem { return newExclusive(t, n.Target(), root) },
	} {
		t.Run(mode, func(t *testing.T) {
			root := fresh(t, n.Home)
			s := files(root)
			here := contract.VFS{Files: s, Root: vfs.RootIno}
			ctx := t.Context()
			put(t, here, "f", []byte("precious"))
			f, err := s.Lookup(ctx, vfs.RootIno, "f")
			if err := errors.Join(err, here.Mkdir("d", 0o755)); err != nil {
				t.Fatal(err)
			}
			makes := map[string]func(name string) error{
				"mkdir":   func(name string) error { _, err := s.Mkdir(ctx, vfs.RootIno, name, 0o755); return err },
				"symlink": func(name string) error { _, err := s.Symlink(ctx, vfs.RootIno, name, "f"); return err },
				"link":    func(name string) error { _, err := s.Link(ctx, f.Attr.Ino, vfs.RootIno, name); return err },
				"create": func(name string) error {
					_, o, err := s.Create(ctx, vfs.RootIno, name, uint32(os.O_RDWR), 0o644)
					if err == nil {
						s.Release(o.Handle)
					}
					return err
				},
				"rename to": func(name string) error {
					return s.Rename(ctx, vfs.RootIno, "f", vfs.RootIno, name, vfs.RenameReplace)
				},
				"rename to a free name": func(name string) error {
					return s.Rename(ctx, vfs.RootIno, "d", vfs.RootIno, name, vfs.RenameNoReplace)
				},
			}
			others := map[string]func(name string) error{
				"lookup": func(name string) error { _, err := s.Lookup(ctx, vfs.RootIno, name); return err },
				"unlink": func(name string) error { return s.Unlink(ctx, vfs.RootIno, name) },
				"rmdir":  func(name string) error { return s.Rmdir(ctx, vfs.RootIno, name) },
				"rename from": func(name string) error {
					return s.Rename(ctx, vfs.RootIno, name, vfs.RootIno, "new", vfs.RenameReplace)
				},
			}
			expect := func(calls map[string]func(string) error, want syscall.Errno, names ...string) {
				t.Helper()
				for what, call := range calls {
					for _, name := range names {
						if err := call(name); vfs.Errno(err) != want {
							t.Errorf("%s %.20q: %v, want %v", what, name, err, want)
						}
					}
				}
			}
			impossible := []string{"", ".", "..", "a/b", "/", "nul\x00"}
			reserved := []string{".bundlefs~", ".bundlefs~x", ".bundlefs~7-7", ".bundlefs~kept-7-7"}
			long := strings.Repeat("x", 256)
			expect(makes, syscall.EINVAL, impossible...)
			expect(others, syscall.EINVAL, impossible...)
			expect(makes, syscall.ENAMETOOLONG, long)
			expect(others, syscall.ENAMETOOLONG, long)
			expect(makes, syscall.EPERM, reserved...)
			expect(others, syscall.ENOENT, reserved...)
			for _, name := range []string{"\xff\xfe", strings.Repeat("y", 255), "new\nline", ".bundlefs"} {
				if err := errors.Join(here.Link("f", name), s.Sync(ctx, nil)); err != nil {
					t.Errorf("link %.20q: %v", name, err)
				}
				if b, err := os.ReadFile(filepath.Join(n.Home, root, name)); string(b) != "precious" {
					t.Errorf("%.20q on the node: %q, %v", name, b, err)
				}
				if err := here.Unlink(name); err != nil {
					t.Errorf("unlink %.20q: %v", name, err)
				}
			}
		})
	}
}

// TestReservedOnNode has a file with a reserved name on the node that no mount has made: it is no
// leftover, and stays there. A leftover goes.
func TestReservedOnNode(t *testing.T) {
	n := testnode.Start(t)
	root := fresh(t, n.Home)
	at := func(name string) string { return filepath.Join(n.Home, root, name) }
	for _, name := range []string{".bundlefs~x", ".bundlefs~kept-3-4", ".bundlefs~3-", ".bundlefs~12-34"} {
		write(t, at(name), "somebody's")
	}
	x := newExclusive(t, n.Target(), root)
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	if names, err := here.List("."); err != nil || len(names) != 0 {
		t.Errorf("%q, %v", names, err)
	}
	await(t, "the leftover goes", func() bool { _, err := os.Lstat(at(".bundlefs~12-34")); return err != nil })
	if err := x.Sync(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{".bundlefs~x", ".bundlefs~kept-3-4", ".bundlefs~3-"} {
		if b, err := os.ReadFile(at(name)); string(b) != "somebody's" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}
