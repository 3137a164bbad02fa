package vfs_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
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

// TestListAhead lists only the root: the subfolders are listed without being asked for.
func TestListAhead(t *testing.T) {
	var opened atomic.Int64
	n, err := node.Start(node.Observe(func(r node.Request) {
		if r.Name == "OPENDIR" {
			opened.Add(1)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	const folders = 30
	for i := range folders {
		if err := os.MkdirAll(filepath.Join(n.Home, "tree", fmt.Sprint(i), "below"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	x := newExclusive(t, n.Target(), "tree")
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	if names, err := here.List("."); err != nil || len(names) != folders {
		t.Fatal(names, err)
	}
	await(t, "all folders to be listed", func() bool { return opened.Load() == 1+2*folders })
	if names, err := here.List("7"); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	if got := opened.Load(); got != 1+2*folders {
		t.Errorf("%d folders listed, want %d", got, 1+2*folders)
	}
}

// await waits until a condition holds that nothing signals.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
