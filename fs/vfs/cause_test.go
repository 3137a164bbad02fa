package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
)

// TestCauses has others' files in the way on the node: the errors say so.
func TestCauses(t *testing.T) {
	for name, try := range map[string]struct {
		want    syscall.Errno
		there   func(root string) error
		request string // before which that is done
		change  func(tree contract.Tree) error
	}{
		"folder at a file's name": {syscall.EISDIR, func(root string) error { return os.Mkdir(filepath.Join(root, "f"), 0o755) },
			"OPEN", func(tree contract.Tree) error { return writeFile(tree, "f", "x") }},
		"file at a folder's name": {syscall.EEXIST, func(root string) error { return os.WriteFile(filepath.Join(root, "d"), nil, 0o644) },
			"MKDIR", func(tree contract.Tree) error { return tree.Mkdir("d", 0o755) }},
		"file in a folder that goes": {syscall.ENOTEMPTY, func(root string) error {
			return os.WriteFile(filepath.Join(root, "old", "x"), nil, 0o644)
		}, "RMDIR", func(tree contract.Tree) error { return tree.Rmdir("old") }},
		"folder at a new name": {syscall.EISDIR, func(root string) error { return os.Mkdir(filepath.Join(root, "new"), 0o755) },
			"posix-rename@openssh.com", func(tree contract.Tree) error { return tree.Rename("g", "new", false) }},
	} {
		t.Run(name, func(t *testing.T) {
			w, x, tree := newWatched(t)
			if err := tree.Mkdir("old", 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, tree, "g", []byte("g"))
			synced(t, x)
			done := false
			w.watch(func(q node.Request) {
				if q.Name == try.request && !done {
					done = true
					if err := try.there(w.Root); err != nil {
						t.Error(err)
					}
				}
			})
			if err := try.change(tree); err != nil {
				t.Fatal(err)
			}
			refusals(t, x, try.want)
			w.watch(nil)
			if _, err := x.Discard(""); err != nil {
				t.Error(err)
			}
			synced(t, x)
		})
	}
}

// TestPendingFiles counts a file once, whatever is to be sent of it.
func TestPendingFiles(t *testing.T) {
	_, x, tree := newWatched(t)
	put(t, tree, "old", []byte("old"))
	synced(t, x)
	release := vfs.Hold(x)
	const files = 20
	for i := range files {
		put(t, tree, fmt.Sprint("f", i), []byte("new"))
		if err := tree.Chmod(fmt.Sprint("f", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Rename("old", "new", false); err != nil {
		t.Fatal(err)
	}
	if got := x.Status().Pending.Files; got != files+1 {
		t.Errorf("%d files wait, want %d", got, files+1)
	}
	release()
	synced(t, x)
	if got := x.Status().Pending; got != (vfs.Progress{}) {
		t.Errorf("after the barrier: %+v", got)
	}
}
