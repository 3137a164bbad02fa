package vfs_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newShared connects to the folder root of the node's home.
func newShared(t *testing.T, target remote.Target, root string) *vfs.Shared {
	t.Helper()
	s, err := vfs.NewShared(t.Context(), vfs.SharedOptions{
		Dial: func(ctx context.Context) (vfs.Conn, error) { return remote.Dial(ctx, target, remote.Options{}) },
		Root: root,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSharedContract(t *testing.T) {
	n := testnode.Start(t)
	contract.Run(t, func(t *testing.T) contract.Tree {
		root, err := os.MkdirTemp(n.Home, "t")
		if err != nil {
			t.Fatal(err)
		}
		return contract.VFS{Files: newShared(t, n.Target(), filepath.Base(root)), Root: vfs.RootIno}
	})
}
