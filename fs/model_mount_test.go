package fs_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/internal/testnode"
)

var (
	modelTime = flag.Duration("model.time", 0, "how long each model test runs; 0 is the quick form")
	modelSeed = flag.Uint64("model.seed", 0, "seed of the model tests; 0 makes one")
	// With workers side by side a seed does not do the same twice.
	modelReplay = flag.String("model.replay", "", "a file with the output of a failed model test, which is done again and made small")
)

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

// TestModelOnMount does random operations on a mount and on a plain folder in
// step, so that what the kernel caches is compared too.
func TestModelOnMount(t *testing.T) {
	t.Cleanup(umask(0))
	for _, c := range []struct {
		name      string
		exclusive bool
		rtt       time.Duration
		cuts      bool
		steps     int
	}{
		{"Exclusive", true, 0, false, 300},
		{"ExclusiveDelay", true, 20 * time.Millisecond, false, 100},
		{"ExclusiveCuts", true, 0, true, 60},
		{"ExclusiveDelayCuts", true, 20 * time.Millisecond, true, 20},
		{"Shared", false, 0, false, 150},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			n := testnode.Start(t)
			link := testnode.NewLink(t, n.Addr)
			link.SetRTT(c.rtt)
			spec := mountSpec{Target: n.TargetVia(link), Timeout: -1}
			spec.Target.Options["ServerAliveInterval"] = "1"
			spec.Target.Options["ServerAliveCountMax"] = "2"
			if c.exclusive {
				spec.Spool = filepath.Join(t.TempDir(), "spool")
			}
			m := newMountWith(t, n, spec)
			if c.cuts {
				link.CutAtRandom(t, 300*time.Millisecond+10*c.rtt)
			}
			runModel(t, m, c.exclusive, c.steps)
		})
	}
}

func runModel(t *testing.T, m *mount, exclusive bool, steps int) {
	t.Helper()
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed=%d", seed)
	here, node, plain := contract.OS{Dir: m.Dir}, contract.OS{Dir: m.Node}, contract.OS{Dir: t.TempDir()}
	model := &contract.Model{
		// In shared mode a name of a file is not known to be another's too.
		Got: here, Want: plain, Seed: seed, Workers: 3, Steps: steps, Every: min(40, max(1, steps/2)), Replay: *modelReplay, NoLinks: !exclusive,
		Closed: exclusive, // a remote step replaces files, and what is open is not told from what is new
		Barrier: func(rng *rand.Rand, open bool) error {
			if err := barrierOf(m.Dir); err != nil {
				return err
			}
			var there contract.Tree = node
			if open {
				there = visible{node}
			}
			if err := contract.Difference(there, here); err != nil {
				return fmt.Errorf("the node and the mount differ: %w", err)
			}
			if !exclusive || rng.IntN(2) == 0 {
				return nil
			}
			// A remote step writes a file, and changes one that is there.
			for _, tree := range []contract.Tree{node, plain} {
				for _, name := range []string{"w0/f", "w1/remote"} {
					if err := writeRemote(tree, name, fmt.Sprintf("remote %d", seed)); err != nil {
						return err
					}
				}
			}
			return m.drop()
		},
	}
	if *modelTime > 0 {
		model.Steps, model.Time = 1<<40, *modelTime
	}
	model.Run(t)
}

// writeRemote replaces what has a name by a file, as tools do that deploy. How many
// names a file has left is not seen from here until all of them are listed.
func writeRemote(tree contract.Tree, name, content string) error {
	if a, err := tree.Lstat(name); err == nil && (a.Mode&0o170000 == 0o040000 || a.Nlink > 1) {
		return nil
	}
	f, err := tree.Open(name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	when := time.Unix(1600000000, 0)
	if err := tree.Utimes(name+".new", when, when); err != nil {
		return err
	}
	return tree.Rename(name+".new", name, false)
}

// barrierOf is the barrier of a mount.
func barrierOf(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// drop has the mount process forget what the node may know better.
func (m *mount) drop() error {
	if _, err := fmt.Fprintln(m.stdin, "drop"); err != nil {
		return err
	}
	var errno int
	_, err := fmt.Fscanln(m.out, &errno)
	return err
}
