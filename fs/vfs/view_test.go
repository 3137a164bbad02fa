package vfs_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// inBothModes gives a file system of each mode over a folder that fill has filled.
func inBothModes(t *testing.T, view vfs.ViewOptions, fill func(t *testing.T, dir string), test func(t *testing.T, files vfs.FileSystem, dir string)) {
	t.Helper()
	n := testnode.Start(t)
	t.Run("shared", func(t *testing.T) {
		root := fresh(t, n.Home)
		fill(t, filepath.Join(n.Home, root))
		test(t, newShared(t, n.Target(), vfs.SharedOptions{Root: root, View: view}), filepath.Join(n.Home, root))
	})
	t.Run("exclusive", func(t *testing.T) {
		root := fresh(t, n.Home)
		fill(t, filepath.Join(n.Home, root))
		x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
			Dial: dial(n.Target()), Root: root, Spool: filepath.Join(t.TempDir(), "spool"), View: view,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := x.Close(); err != nil {
				t.Error(err)
			}
		})
		test(t, x, filepath.Join(n.Home, root))
	})
}

// at looks a path up.
func at(t *testing.T, files vfs.FileSystem, names ...string) vfs.Entry {
	t.Helper()
	e := vfs.Entry{Attr: vfs.Attr{Ino: vfs.RootIno}}
	for _, name := range names {
		var err error
		if e, err = files.Lookup(t.Context(), e.Attr.Ino, name); err != nil {
			t.Fatalf("lookup of %s: %v", name, err)
		}
	}
	return e
}

func TestLinksAreContained(t *testing.T) {
	targets := map[string]string{"in": "../a/f", "down": "f", "out": "../../x", "abs": "/etc/passwd", "back": "b/../f", "root": ".."}
	inBothModes(t, vfs.ViewOptions{}, func(t *testing.T, dir string) {
		if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, target := range targets {
			if err := os.Symlink(target, filepath.Join(dir, "a", name)); err != nil {
				t.Fatal(err)
			}
		}
	}, func(t *testing.T, files vfs.FileSystem, dir string) {
		a := at(t, files, "a").Attr.Ino
		for name, target := range targets {
			got, err := files.Readlink(t.Context(), at(t, files, "a", name).Attr.Ino)
			if name == "in" || name == "down" || name == "root" {
				if err != nil || got != target {
					t.Errorf("%s leads to %q, %v, want %q", name, got, err, target)
				}
			} else if vfs.Errno(err) != syscall.EPERM {
				t.Errorf("%s leads to %q, %v, want EPERM", name, got, err)
			}
		}
		// What leads inside here leads out one folder up.
		if err := files.Rename(t.Context(), a, "in", vfs.RootIno, "in", vfs.RenameReplace); err != nil {
			t.Fatal(err)
		}
		if got, err := files.Readlink(t.Context(), at(t, files, "in").Attr.Ino); vfs.Errno(err) != syscall.EPERM {
			t.Errorf("after it moved up: %q, %v, want EPERM", got, err)
		}
		// So does what has a name there as well.
		if _, err := files.Link(t.Context(), at(t, files, "a", "root").Attr.Ino, vfs.RootIno, "second"); err != nil {
			t.Fatal(err)
		}
		if got, err := files.Readlink(t.Context(), at(t, files, "a", "root").Attr.Ino); vfs.Errno(err) != syscall.EPERM {
			t.Errorf("with a name further up: %q, %v, want EPERM", got, err)
		}
		// Such a link may be made: it may be right on the node.
		e, err := files.Symlink(t.Context(), vfs.RootIno, "new", "/opt/app")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := files.Readlink(t.Context(), e.Attr.Ino); vfs.Errno(err) != syscall.EPERM {
			t.Errorf("a new link out: %q, %v, want EPERM", got, err)
		}
		if err := files.Sync(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(filepath.Join(dir, "new")); err != nil || got != "/opt/app" {
			t.Errorf("on the node: %q, %v", got, err)
		}
	})
}

func TestTransformSymlinks(t *testing.T) {
	inBothModes(t, vfs.ViewOptions{Transform: true, NoHardlink: true}, func(t *testing.T, dir string) {
		if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, target := range map[string]string{"f": dir + "/x/f", "out": "/etc"} {
			if err := os.Symlink(target, filepath.Join(dir, "a", name)); err != nil {
				t.Fatal(err)
			}
		}
	}, func(t *testing.T, files vfs.FileSystem, dir string) {
		if got, err := files.Readlink(t.Context(), at(t, files, "a", "f").Attr.Ino); err != nil || got != "../x/f" {
			t.Errorf("%q, %v, want ../x/f", got, err)
		}
		if got, err := files.Readlink(t.Context(), at(t, files, "a", "out").Attr.Ino); vfs.Errno(err) != syscall.EPERM {
			t.Errorf("%q, %v, want EPERM", got, err)
		}
		if _, err := files.Link(t.Context(), at(t, files, "a", "f").Attr.Ino, vfs.RootIno, "g"); vfs.Errno(err) != syscall.ENOSYS {
			t.Errorf("link: %v, want ENOSYS", err)
		}
	})
}

func TestFollowSymlinks(t *testing.T) {
	n := testnode.Start(t)
	for name, target := range map[string]string{"dir": "real", "file": "real/f", "none": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(n.Home, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(n.Home, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Home, "real", "f"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newShared(t, n.Target(), vfs.SharedOptions{View: vfs.ViewOptions{Follow: true}})
	o, err := s.OpenDir(t.Context(), vfs.RootIno)
	if err != nil {
		t.Fatal(err)
	}
	defer s.ReleaseDir(o.Handle)
	entries, err := s.ReadDir(t.Context(), o.Handle, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := s.Instantiate(o.Handle, e); ok && e.Name != "real" && e.Attr.Mode&vfs.TypeMask == vfs.TypeSymlink {
			t.Errorf("%s was listed as a link", e.Name)
		}
	}
	for name, want := range map[string]uint32{"dir": vfs.TypeDir, "file": vfs.TypeRegular, "none": vfs.TypeSymlink} {
		if got := at(t, s, name).Attr.Mode & vfs.TypeMask; got != want {
			t.Errorf("%s is %o, want %o", name, got, want)
		}
	}
	if e := at(t, s, "dir", "f"); e.Attr.Size != 7 {
		t.Errorf("size %d through the link", e.Attr.Size)
	}
	_, err = vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{Dial: dial(n.Target()), Spool: t.TempDir(), View: vfs.ViewOptions{Follow: true}})
	if err == nil {
		t.Error("exclusive mode takes it")
	}
}

func TestOwnersAreMapped(t *testing.T) {
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	fill := func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	owner := func(t *testing.T, dir string) (uint32, uint32) {
		info, err := os.Stat(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		return st.Uid, st.Gid
	}
	for name, o := range map[string]vfs.ViewOptions{
		"user": {IDMap: "user", LocalUID: 4242, LocalGID: 4343},
		"file": {IDMap: "file", UIDMap: map[uint32]uint32{4242: uid}, GIDMap: map[uint32]uint32{4343: gid}},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, o, fill, func(t *testing.T, files vfs.FileSystem, dir string) {
				e := at(t, files, "f")
				if e.Attr.UID != 4242 || e.Attr.GID != 4343 {
					t.Errorf("owner %d, %d", e.Attr.UID, e.Attr.GID)
				}
				id, group := uint32(4242), uint32(4343)
				if _, err := files.Setattr(t.Context(), e.Attr.Ino, 0, vfs.SetAttr{UID: &id, GID: &group}); err != nil {
					t.Fatal(err)
				}
				if err := files.Sync(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if u, g := owner(t, dir); u != uid || g != gid {
					t.Errorf("on the node: %d, %d", u, g)
				}
				if name != "file" {
					return
				}
				other := uint32(4444)
				if _, err := files.Setattr(t.Context(), e.Attr.Ino, 0, vfs.SetAttr{UID: &other}); vfs.Errno(err) != syscall.EPERM {
					t.Errorf("an owner that the node does not know: %v, want EPERM", err)
				}
			})
		})
	}
	t.Run("nobody", func(t *testing.T) {
		o := vfs.ViewOptions{IDMap: "file", UIDMap: map[uint32]uint32{4242: uid + 1}}
		inBothModes(t, o, fill, func(t *testing.T, files vfs.FileSystem, dir string) {
			if _, err := files.Lookup(t.Context(), vfs.RootIno, "f"); vfs.Errno(err) != syscall.EPERM {
				t.Errorf("%v, want EPERM", err)
			}
			if _, err := files.Getattr(t.Context(), vfs.RootIno, 0); err != nil {
				t.Errorf("the root: %v", err)
			}
		})
	})
}

// In exclusive mode the login is known by a file that it has made: what the node would refuse it later is
// refused here at once, unless it is the node's root.
func TestOwnerOfLogin(t *testing.T) {
	n := testnode.Start(t)
	root := fresh(t, n.Home)
	own := filepath.Join(n.Home, root, "own")
	write(t, own, "")
	login := uint32(os.Getuid())
	if login == 0 { // a file that is another's, then
		login = 12345
		if err := os.Chown(own, int(login), int(login)); err != nil {
			t.Fatal(err)
		}
	}
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: dial(n.Target()), Root: root, Spool: filepath.Join(t.TempDir(), "spool"),
		View: vfs.ViewOptions{IDMap: "user", LocalUID: 4242, LocalGID: 4343, LoginFile: "own"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	e := at(t, x, "own")
	if e.Attr.UID != 4242 || e.Attr.GID != 4343 {
		t.Errorf("owner %d, %d", e.Attr.UID, e.Attr.GID)
	}
	set := func(uid, gid uint32) error {
		_, err := x.Setattr(t.Context(), e.Attr.Ino, 0, vfs.SetAttr{UID: &uid, GID: &gid})
		return err
	}
	if err := set(4242, 4343); err != nil {
		t.Error(err)
	}
	for _, ids := range [][2]uint32{{4444, 4343}, {4242, 4444}, {0, 0}} {
		if err := set(ids[0], ids[1]); vfs.Errno(err) != syscall.EPERM {
			t.Errorf("chown to %v: %v, want EPERM", ids, err)
		}
	}
	if err := x.Sync(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
