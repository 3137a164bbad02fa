package vfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
)

// A big file is sent while it is still being written.
func TestBigFileIsSentEarly(t *testing.T) {
	w, x, tree := newWatched(t)
	f, err := tree.Open("big", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < 4<<20; off += 128 << 10 {
		if _, err := f.WriteAt(make([]byte, 128<<10), off); err != nil {
			t.Fatal(err)
		}
	}
	// Not what is sent of each open file now and then, but most of it.
	await(t, "data to arrive before the file is closed", func() bool {
		st, err := os.Stat(w.Root + "/big")
		return err == nil && st.Size() >= 2<<20
	})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	arrives(t, x, w.Root)
}

// fsync of a file is fsync on the node, and nothing else is.
func TestFsyncReachesNode(t *testing.T) {
	l := newLocal(t, t.TempDir())
	f, err := l.Open("f", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := f.WriteAt(whole(i, 100), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if n := l.link.fsyncs.Load(); n != int64(i+1) {
			t.Errorf("%d of %d fsyncs were sent", n, i+1)
		}
		if err := isWhole(filepath.Join(l.root, "f")); err != nil {
			t.Error(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, l, "g", whole(1, 100))
	arrives(t, l.x, l.root)
	if n := l.link.fsyncs.Load(); n != 3 {
		t.Errorf("%d fsyncs for 3", n)
	}
}

// In a fresh bundle nothing is asked, whatever is looked up.
func TestFreshAsksNothing(t *testing.T) {
	w, x, tree := newWatched(t)
	for i := range 5 {
		if err := tree.Mkdir(fmt.Sprint("d", i), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, tree, fmt.Sprintf("d%d/f", i), []byte("content"))
		if err := tree.Symlink("f", fmt.Sprintf("d%d/l", i)); err != nil {
			t.Fatal(err)
		}
	}
	synced(t, x)
	questions := func(q node.Request) bool { return !strings.HasPrefix(q.Name, "statvfs") }
	before := w.count(questions)
	for range 100 {
		for _, p := range []string{"nope", "d1/nope", "d1/f/nope"} {
			if _, err := tree.Lstat(p); err == nil {
				t.Errorf("%s is there", p)
			}
		}
		for _, dir := range []string{".", "d2"} {
			if names, err := tree.List(dir); err != nil || len(names) == 0 {
				t.Errorf("%s: %q, %v", dir, names, err)
			}
		}
		if target, err := tree.Readlink("d3/l"); target != "f" || err != nil {
			t.Errorf("a link to %q, %v", target, err)
		}
		if a, err := tree.Lstat("d4/f"); a.Size != 7 || err != nil {
			t.Errorf("%+v, %v", a, err)
		}
		if b, err := readTree(tree, "d0/f"); string(b) != "content" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := x.Statfs(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if n := w.count(questions) - before; n > 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		t.Errorf("%d requests: %+v", n, w.seen[len(w.seen)-n:])
	}
}

// The node's space is asked for in the background while somebody wants to know it, and
// nobody waits for the answer.
func TestStatfsInBackground(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	defer vfs.SetSpaceAge(vfs.SetSpaceAge(10 * time.Millisecond))
	disk, l := smallDisk(t)
	x := l.x
	size := func() (uint64, uint64) {
		v, err := x.Statfs(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return v.Blocks * uint64(v.FragmentSize), v.Available
	}
	if size, _ := size(); size != 4<<20 {
		t.Fatalf("a file system of %d bytes", size)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	await(t, "the new size is seen", func() bool { size, _ := size(); return size == 8<<20 })
}
