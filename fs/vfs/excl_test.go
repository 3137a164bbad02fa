package vfs_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// newExclusive mounts the folder root of the node's home, as its only writer.
func newExclusive(t *testing.T, target remote.Target, root string) *vfs.Exclusive {
	t.Helper()
	var out io.Writer = io.Discard
	if os.Getenv("BUNDLEFS_TEST_DEBUG") != "" {
		out = os.Stderr
	}
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial:  func(ctx context.Context) (vfs.Conn, error) { return remote.Dial(ctx, target, remote.Options{}) },
		Root:  root,
		Spool: filepath.Join(t.TempDir(), "spool"),
		Log:   slog.New(slog.NewTextHandler(out, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// TestExclusiveContract runs the suite and compares the node with what was seen
// here, after the barrier.
func TestExclusiveContract(t *testing.T) {
	n := testnode.Start(t)
	contract.Run(t, func(t *testing.T) contract.Tree {
		root, err := os.MkdirTemp(n.Home, "t")
		if err != nil {
			t.Fatal(err)
		}
		x := newExclusive(t, n.Target(), filepath.Base(root))
		here := contract.VFS{Files: x, Root: vfs.RootIno}
		t.Cleanup(func() {
			if t.Failed() {
				return
			}
			if err := x.Sync(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			contract.Compare(t, here, contract.OS{Dir: root})
		})
		return here
	})
}
