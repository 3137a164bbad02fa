package vfs_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

var (
	modelTime = flag.Duration("model.time", 0, "how long each model test runs; 0 is the quick form")
	modelSeed = flag.Uint64("model.seed", 0, "seed of the model tests; 0 makes one")
	// With workers side by side a seed does not do the same twice.
	modelReplay = flag.String("model.replay", "", "a file with the output of a failed model test, which is done again and made small")
)

// umask sets the process's umask until the test ends.
func umask(t *testing.T, mask int) {
	t.Helper()
	old := syscall.Umask(mask)
	t.Cleanup(func() { syscall.Umask(old) })
}

// visible is a folder of the node without the names that nobody sees.
type visible struct{ contract.OS }

func (v visible) List(p string) ([]string, error) {
	names, err := v.OS.List(p)
	kept := names[:0]
	for _, name := range names {
		if !strings.HasPrefix(name, ".bundlefs~") {
			kept = append(kept, name)
		}
	}
	return kept, err
}

// TestExclusiveModel does random operations in the mount and on a plain folder in
// step, and compares the node at each barrier.
func TestExclusiveModel(t *testing.T) {
	umask(t, 0)
	for _, c := range []struct {
		name  string
		rtt   time.Duration
		cuts  bool
		steps int
	}{
		{"Local", 0, false, 1000},
		{"Delay", 20 * time.Millisecond, false, 90},
		{"LocalCuts", 0, true, 300},
		{"DelayCuts", 20 * time.Millisecond, true, 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			n := testnode.Start(t)
			link := testnode.NewLink(t, n.Addr)
			link.SetRTT(c.rtt)
			target := n.TargetVia(link)
			target.Options["ServerAliveInterval"] = "1"
			target.Options["ServerAliveCountMax"] = "2"
			x, root := newPatient(t, n, target)
			if c.cuts {
				link.CutAtRandom(t, 300*time.Millisecond+10*c.rtt)
			}
			runModel(t, x, root, c.steps, nil)
		})
	}
}

// newPatient mounts an empty folder of the node, whose path it returns. It waits for
// the link however long that takes.
func newPatient(t *testing.T, n *testnode.Node, target remote.Target) (*vfs.Exclusive, string) {
	t.Helper()
	root := fresh(t, n.Home)
	if err := os.Chmod(filepath.Join(n.Home, root), 0o777); err != nil { // for a user who is not who runs the tests
		t.Fatal(err)
	}
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: dial(target), Root: root, Spool: filepath.Join(t.TempDir(), "spool"), Timeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x, filepath.Join(n.Home, root)
}

// runModel runs the model test on x, which has the empty folder root of the node.
// remote, if not nil, changes the folder on the node and the plain one alike, as
// a remote step does; then x drops what it knows.
func runModel(t *testing.T, x *vfs.Exclusive, root string, steps int, remote func(rng *rand.Rand, trees ...contract.Tree) error) {
	t.Helper()
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed=%d", seed)
	here, plain := contract.VFS{Files: x, Root: vfs.RootIno}, contract.OS{Dir: t.TempDir()}
	m := &contract.Model{
		Got: here, Want: plain, Seed: seed, Workers: 3, Steps: steps, Every: 60, Replay: *modelReplay,
		NoLinks: remote != nil, Closed: remote != nil, // who has a file open keeps it, which cannot be seen from afar
		Barrier: func(rng *rand.Rand, open bool) error {
			if err := barrier(x, root, open); err != nil {
				return err
			}
			if remote != nil {
				if err := remote(rng, contract.OS{Dir: root}, plain); err != nil {
					return err
				}
				x.Drop()
			} else if rng.IntN(3) == 0 {
				x.Drop()
			}
			return nil
		},
	}
	if *modelTime > 0 {
		m.Steps, m.Time = 1<<40, *modelTime
	}
	m.Run(t)
}

// barrier waits until the node has everything, which must not take for ever, and
// compares it.
func barrier(x *vfs.Exclusive, root string, open bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := x.Sync(ctx, nil); err != nil {
		return fmt.Errorf("%w; %+v\n%s", err, x.Status(), vfs.Pending(x))
	}
	node := contract.OS{Dir: root}
	var there contract.Tree = node
	if open { // what is open may have been removed
		there = visible{node}
	}
	if err := contract.Difference(there, contract.VFS{Files: x, Root: vfs.RootIno}); err != nil {
		return fmt.Errorf("the node and the mount differ: %w", err)
	}
	if st := x.Status(); !open && (st.Pending != vfs.Progress{}) {
		return fmt.Errorf("after the barrier there is still %+v to be sent", st.Pending)
	}
	return nil
}

// TestExclusiveModelDrop has the node's folder changed there between two barriers,
// as a remote step does; after Drop all of that is seen.
func TestExclusiveModelDrop(t *testing.T) {
	umask(t, 0)
	n := testnode.Start(t)
	x, root := newPatient(t, n, n.Target())
	runModel(t, x, root, 400, changeOnNode)
}

// changeOnNode does some operations on all trees directly.
func changeOnNode(rng *rand.Rand, trees ...contract.Tree) error {
	for range 1 + rng.IntN(8) {
		dir := fmt.Sprintf("w%d", rng.IntN(3))
		p, q := dir+"/"+string("abfgh"[rng.IntN(5)]), dir+"/"+string("abfgh"[rng.IntN(5)])
		kind, mode, data := rng.IntN(8), uint32(rng.IntN(0o1000)), make([]byte, rng.IntN(5000))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		when := time.Unix(1500000000+int64(rng.IntN(1e8)), 0)
		a, err := trees[0].Lstat(p)
		isFile, isDir := err == nil && a.Mode&vfs.TypeMask == vfs.TypeRegular, err == nil && a.Mode&vfs.TypeMask == vfs.TypeDir
		for _, t := range trees {
			switch {
			case kind == 0 && isFile:
				t.Chmod(p, mode|0o600)
			case kind == 1 && !isDir:
				t.Unlink(p)
			case kind == 2:
				t.Mkdir(p, mode|0o700)
			case kind == 3 && p != q:
				t.Rename(p, q, false)
			case kind == 4 && err != nil:
				t.Symlink("elsewhere", p)
			case kind == 5 && isDir:
				t.Rmdir(p)
			case isFile || err != nil:
				f, err := t.Open(p, syscall.O_RDWR|syscall.O_CREAT|syscall.O_TRUNC, mode|0o600)
				if err != nil {
					return err
				}
				f.WriteAt(data, 0)
				f.Close()
				t.Utimes(p, when, when)
			}
		}
	}
	return nil
}

// One of two names of a file is given to another file on the node.
func TestDropLinkReplaced(t *testing.T) {
	n := testnode.Start(t)
	x, root := newPatient(t, n, n.Target())
	tree := contract.VFS{Files: x, Root: vfs.RootIno}
	put(t, tree, "f", []byte("first"))
	if err := tree.Link("f", "g"); err != nil {
		t.Fatal(err)
	}
	synced(t, x)
	there := contract.OS{Dir: root}
	put(t, there, "next", []byte("the second"))
	if err := there.Rename("next", "g", false); err != nil {
		t.Fatal(err)
	}
	x.Drop()
	contract.Compare(t, tree, there)
}
