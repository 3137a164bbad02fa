package vfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// refusals has the barrier report what the node refuses, and returns it.
func refusals(t *testing.T, x *vfs.Exclusive, want syscall.Errno) (paths []string) {
	t.Helper()
	err := x.Sync(context.Background(), nil)
	var refused *vfs.RefusedError
	if !errors.As(err, &refused) || vfs.Errno(err) != want {
		t.Fatalf("barrier: %v, want refusals with %v", err, want)
	}
	for _, r := range refused.Changes {
		if r.Errno != unix.ErrnoName(want) {
			t.Errorf("refused %+v, want %v", r, want)
		}
		paths = append(paths, r.Path)
	}
	var listed []string
	for _, r := range x.Status().Refused {
		listed = append(listed, r.Path)
	}
	if !slices.Equal(listed, paths) {
		t.Errorf("status lists %q, the barrier %q", listed, paths)
	}
	return paths
}

// arrives waits until the node has everything.
func arrives(t *testing.T, x *vfs.Exclusive, root string) {
	t.Helper()
	synced(t, x)
	contract.Compare(t, contract.OS{Dir: root}, contract.VFS{Files: x, Root: vfs.RootIno})
	if st := x.Status(); len(st.Refused) > 0 || st.Pending != (vfs.Progress{}) {
		t.Errorf("status %+v", st)
	}
}

// A node whose disk is full keeps nothing back of what does not need space, and
// gets the rest when there is space again, without being asked to.
func TestDiskFull(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	disk, l := smallDisk(t)
	tree, x, root := l.VFS, l.x, l.root
	put(t, tree, "gone", []byte("x"))
	synced(t, x)
	l.link.cut(true)
	for i := range 6 {
		put(t, tree, fmt.Sprintf("f%d", i), whole(i, 400<<10))
	}
	if err := tree.Unlink("gone"); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 5<<19), 0o644); err != nil {
		t.Fatal(err)
	}
	l.link.cut(false)
	refusals(t, x, syscall.ENOSPC) // of some, or of all, when each got its part of the room
	if _, err := os.Stat(filepath.Join(root, "gone")); err == nil {
		t.Error("a file was not removed since others are refused")
	}
	for i := range 6 { // here all is as it was written
		f, err := tree.Open(fmt.Sprintf("f%d", i), os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := whole(i, 400<<10)
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("f%d reads otherwise than written, %v", i, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is sent", func() bool {
		st := x.Status()
		return len(st.Refused) == 0 && st.Pending.Files == 0
	})
	arrives(t, x, root)

	// Once the space is known, what has no room is not accepted.
	if _, err := x.Statfs(context.Background()); err != nil {
		t.Fatal(err)
	}
	f, err := tree.Open("large", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); err == nil && off < 8<<20; off += 256 << 10 {
		_, err = f.WriteAt(make([]byte, 256<<10), off)
	}
	if vfs.Errno(err) != syscall.ENOSPC {
		t.Errorf("writing more than the node has room for: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyNode(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	disk, l := smallDisk(t)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", disk, "", unix.MS_REMOUNT|flags, "size=4m"); err != nil {
			t.Fatal(err)
		}
	}
	tree, x, root := l.VFS, l.x, l.root
	put(t, tree, "old", []byte("old"))
	synced(t, x)
	remount(unix.MS_RDONLY)
	put(t, tree, "new", []byte("new"))
	put(t, tree, "old", []byte("changed"))
	if err := tree.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, tree, "d/f", []byte("in d"))
	if got := refusals(t, x, syscall.EROFS); !slices.Equal(got, []string{"d", "new", "old"}) {
		t.Errorf("refused %q", got)
	}
	remount(0)
	x.Retry("")
	arrives(t, x, root)
}

// A folder that its user may not change for a while.
func TestPermissionTaken(t *testing.T) {
	n := testnode.Start(t, testnode.AsUser())
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: dial(n.Target()), Spool: filepath.Join(t.TempDir(), "spool"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	tree := contract.VFS{Files: x, Root: vfs.RootIno}
	if err := tree.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, tree, "d/old", []byte("old"))
	put(t, tree, "d/older", []byte("older"))
	synced(t, x)
	allow := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(filepath.Join(n.Home, "d"), mode); err != nil {
			t.Fatal(err)
		}
	}
	allow(0o500)
	put(t, tree, "d/f", []byte("refused"))
	if err := tree.Mkdir("d/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, tree, "d/sub/f", []byte("refused with its folder"))
	if err := tree.Unlink("d/old"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Rename("d/older", "d/newer", false); err != nil {
		t.Fatal(err)
	}
	put(t, tree, "beside", []byte("not refused"))
	if got := refusals(t, x, syscall.EACCES); !slices.Equal(got, []string{"d/f", "d/newer", "d/old", "d/sub"}) {
		t.Errorf("refused %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(n.Home, "beside")); err != nil || string(b) != "not refused" {
		t.Errorf("a file beside: %q, %v", b, err)
	}
	// One is given up: there is again what the node has.
	if count, err := x.Discard("d/old"); count != 1 || err != nil {
		t.Errorf("discarded %d, %v", count, err)
	}
	if a, err := tree.Lstat("d/old"); err != nil || a.Size != 3 {
		t.Errorf("d/old: %+v, %v", a, err)
	}
	if _, err := x.Discard("d/old"); vfs.Errno(err) != syscall.ENOENT {
		t.Errorf("discarded again: %v", err)
	}
	allow(0o755)
	x.Retry("")
	synced(t, x)
	for name, want := range map[string]string{"d/f": "refused", "d/newer": "older", "d/old": "old", "d/sub/f": "refused with its folder"} {
		if b, err := os.ReadFile(filepath.Join(n.Home, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	allow(0o500)
	put(t, tree, "d/given-up", []byte("x"))
	if err := tree.Mkdir("d/more", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, tree, "d/more/f", []byte("x"))
	refusals(t, x, syscall.EACCES)
	if count, err := x.Discard("d"); count != 2 || err != nil {
		t.Errorf("discarded %d, %v", count, err)
	}
	synced(t, x)
	if names, err := tree.List("d"); err != nil || !slices.Equal(names, []string{"f", "newer", "old", "sub"}) {
		t.Errorf("after discarding: %q, %v", names, err)
	}
	if st := x.Status(); len(st.Refused) > 0 || st.Pending != (vfs.Progress{}) {
		t.Errorf("status %+v", st)
	}
	allow(0o755)
}

// Permissions that were taken and given back here are given back on the node
// before what needs them, for a user who is not above them.
func TestOwnPermissions(t *testing.T) {
	n := testnode.Start(t, testnode.AsUser())
	x, root := newPatient(t, n, n.Target())
	tree := contract.VFS{Files: x, Root: vfs.RootIno}
	if err := tree.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := tree.Open("d/f", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	do(tree.Chmod("d/f", 0o444))
	do(tree.Chmod("d", 0o555))
	synced(t, x)
	_, err = f.WriteAt([]byte("written though it is read-only by now"), 0)
	do(err)
	do(f.Close())
	synced(t, x)
	do(tree.Chmod("d", 0o755))
	put(t, tree, "d/g", []byte("g"))
	do(tree.Rename("d/f", "d/h", false))
	do(tree.Mkdir("d/sub", 0o500))
	put(t, tree, "d/sub/f", []byte("f"))
	arrives(t, x, root)
	do(tree.Chmod("d/sub", 0o700))
	do(tree.Unlink("d/sub/f"))
	do(tree.Rmdir("d/sub"))
	arrives(t, x, root)
}

// At the limit of the spool writers wait for the link, and none fails.
func TestSpoolLimit(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	link.SetBandwidth(4 << 20)
	root := fresh(t, n.Home)
	const most = 256 << 10
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: dial(n.TargetVia(link)), Root: root, Spool: filepath.Join(t.TempDir(), "spool"), SpoolMax: most, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	tree := contract.VFS{Files: x, Root: vfs.RootIno}
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			f, err := tree.Open(fmt.Sprintf("f%d", i), os.O_RDWR|os.O_CREATE, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			data := whole(i, 1<<20)
			for off := 0; off < len(data); off += 32 << 10 {
				if _, err := f.WriteAt(data[off:min(off+32<<10, len(data))], int64(off)); err != nil {
					t.Error(err)
				}
				if st := x.Status(); st.Pending.Bytes > most {
					t.Errorf("%d bytes wait to be sent", st.Pending.Bytes)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	arrives(t, x, filepath.Join(n.Home, root))
}

// At the limit of the spool with the link down writers wait no longer than a request may.
func TestSpoolLimitLinkDown(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	root := fresh(t, n.Home)
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: dial(n.TargetVia(link)), Root: root, Spool: filepath.Join(t.TempDir(), "spool"), SpoolMax: 256 << 10, Timeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	tree := contract.VFS{Files: x, Root: vfs.RootIno}
	link.Refuse()
	link.Reset()
	f, err := tree.Open("f", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	written := int64(0)
	for ; err == nil && written < 1<<20; written += 64 << 10 {
		_, err = f.WriteAt(bytes.Repeat([]byte{7}, 64<<10), written)
	}
	if vfs.Errno(err) != syscall.ETIMEDOUT {
		t.Fatalf("after %d bytes: %v, want ETIMEDOUT", written, err)
	}
	link.Heal()
	eventually(t, "it is connected again", func() bool { return x.Status().Connected })
	if _, err := f.WriteAt([]byte("more"), 0); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	arrives(t, x, filepath.Join(n.Home, root))
}
