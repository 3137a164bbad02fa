package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/internal/testnode"
)

func TestContractOnPlainFolder(t *testing.T) {
	t.Cleanup(umask(0))
	contract.Run(t, func(t *testing.T) contract.Tree { return contract.OS{Dir: t.TempDir()} })
}

func TestContractOnMount(t *testing.T) {
	t.Cleanup(umask(0))
	n := testnode.Start(t)
	m := newMount(t, n, n.Target())
	contract.Run(t, func(t *testing.T) contract.Tree { return contract.OS{Dir: m.fresh(t)} })
}

// TestContractOnExclusiveMount runs the suite in exclusive mode and compares, after
// the barrier, what the mount shows with what the node has.
func TestContractOnExclusiveMount(t *testing.T) {
	t.Cleanup(umask(0))
	n := testnode.Start(t)
	m := newExclusiveMount(t, n, n.Target())
	contract.Run(t, func(t *testing.T) contract.Tree {
		tree := contract.OS{Dir: m.fresh(t)}
		t.Cleanup(func() {
			syncFolder(t, m.Dir)
			contract.Compare(t, tree, contract.OS{Dir: filepath.Join(m.Node, filepath.Base(tree.Dir))})
		})
		return tree
	})
}

// TestDropOnMount: what a remote step has changed is seen after Drop, in spite of
// what the kernel keeps.
func TestDropOnMount(t *testing.T) {
	n := testnode.Start(t)
	m := newExclusiveMount(t, n, n.Target())
	here := func(name string) string { return filepath.Join(m.Dir, name) }
	there := func(name string) string { return filepath.Join(m.Node, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(here("dir/sub"), 0o755))
	must(os.WriteFile(here("dir/changed"), []byte("old"), 0o644))
	must(os.WriteFile(here("dir/gone"), []byte("x"), 0o644))
	must(os.WriteFile(here("dir/same"), []byte("same"), 0o644))
	syncFolder(t, m.Dir)
	if _, err := os.Stat(here("dir/new")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	must(os.WriteFile(there("dir/changed"), []byte("changed content"), 0o600))
	must(os.WriteFile(there("dir/new"), []byte("new"), 0o644))
	must(os.Remove(there("dir/gone")))
	must(os.Remove(there("dir/sub")))
	must(os.WriteFile(there("dir/sub"), []byte("a file now"), 0o644))
	if errno := m.tell(t, "drop"); errno != 0 {
		t.Fatal(errno)
	}
	contract.Compare(t, contract.OS{Dir: m.Dir}, contract.OS{Dir: m.Node})
	// And it goes on from there.
	must(os.WriteFile(here("dir/changed"), []byte("mine again"), 0o644))
	must(os.Remove(here("dir/new")))
	syncFolder(t, here("dir"))
	contract.Compare(t, contract.OS{Dir: m.Dir}, contract.OS{Dir: m.Node})
}

// syncFolder is the barrier as a program calls it: fsync of a folder.
func syncFolder(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// umask sets the process's umask and returns what sets it back.
func umask(mask int) (restore func()) {
	old := syscall.Umask(mask)
	return func() { syscall.Umask(old) }
}
