package vfs_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
)

// TestRecoverPrefix cuts the journal of a run off at every record and in the
// middle of some: recovery finds what was acknowledged before, and brings it to
// the node.
func TestRecoverPrefix(t *testing.T) {
	seed := seedOf(t)
	home := t.TempDir()
	c := &chooser{Rand: rand.New(rand.NewPCG(seed, 2)), m: newModel(), most: 150_000}

	// First what the node has from before, of which this spool does not tell.
	node := filepath.Join(home, "bundle")
	if err := os.Mkdir(node, 0o755); err != nil {
		t.Fatal(err)
	}
	_, do := openLocal(t, home, filepath.Join(t.TempDir(), "spool"))
	for range 60 {
		if o := c.next(); o.Kind != opLink && o.Kind != opCut && o.Kind != opHeal { // several names are several files to who lists them
			c.m.apply(o, do.must(t, o).Mtime)
		}
	}
	do.must(t, op{Kind: opSync})
	do.must(t, op{Kind: opEnd})
	c.m.open = map[int]*mfile{}

	// Then changes which do not reach it.
	spool := filepath.Join(t.TempDir(), "spool")
	x, do := openLocal(t, home, spool)
	if err := c.m.check(t, contract.VFS{Files: x, Root: vfs.RootIno}); err != "" {
		t.Fatal(err)
	}
	do.must(t, op{Kind: opCut})
	c.cut = true
	type state struct {
		model  *model
		last   op
		length int64 // of the journal
		spool  string
	}
	journal := func() int64 {
		info, err := os.Stat(filepath.Join(spool, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	states := []state{{c.m.clone(), op{}, journal(), copyTree(t, spool)}}
	for len(states) < 20 {
		o := c.next()
		if o.Kind == opHeal || o.Kind == opFsync {
			continue
		}
		c.m.apply(o, do.must(t, o).Mtime)
		states = append(states, state{c.m.clone(), o, journal(), copyTree(t, spool)})
	}
	do.must(t, op{Kind: opEnd})

	for i, s := range states {
		if i == 0 || s.length == states[i-1].length {
			continue
		}
		for _, length := range []int64{states[i-1].length, states[i-1].length + 1 + c.Int64N(s.length-states[i-1].length-1), s.length - 1, s.length} {
			want := states[i-1].model
			if length == s.length {
				want = s.model
			}
			recoverAt(t, node, s.spool, length, want, s.last)
			if t.Failed() {
				t.Fatalf("at state %d, %v, with %d of %d bytes of the journal", i, s.last, length, s.length)
			}
		}
	}
}

// recoverAt takes up a copy of a spool whose journal is cut off, for a copy of the node.
func recoverAt(t *testing.T, node, spool string, length int64, want *model, last op) {
	t.Helper()
	home := t.TempDir()
	if err := os.Rename(copyTree(t, node), filepath.Join(home, "bundle")); err != nil {
		t.Fatal(err)
	}
	spool = copyTree(t, spool)
	if err := os.Truncate(filepath.Join(spool, "journal"), length); err != nil {
		t.Fatal(err)
	}
	want = want.clone()
	x, do := openLocal(t, home, spool)
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	if err := want.check(t, here); err != "" {
		// Bytes of the last write may be in the spool though its record is not.
		if f := want.open[last.Handle]; last.Kind == opWrite && f != nil {
			after := want.clone()
			after.apply(last, unsure)
			adopt(t, here, want, f, after.open[last.Handle].data, last)
			err = want.check(t, here)
		}
		if err != "" {
			t.Error("here: " + err)
		}
	}
	do.must(t, op{Kind: opSync})
	if err := want.check(t, contract.OS{Dir: filepath.Join(home, "bundle")}); err != "" {
		t.Error("on the node: " + err)
	}
	do.must(t, op{Kind: opEnd})
	if _, err := os.Stat(spool); !os.IsNotExist(err) {
		t.Errorf("the spool is left: %v", err)
	}
}

// adopt takes over the content of f if it is a mixture of before and after a write.
func adopt(t *testing.T, here contract.Tree, m *model, f *mfile, after []byte, o op) {
	t.Helper()
	_, files := m.describe()
	for p, other := range files {
		if other != f {
			continue
		}
		data, err := readTree(here, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != len(f.data) || !mixed(data, f.data, after, int(o.Off), int(o.Off)+len(o.Data)) {
			t.Errorf("%s: not a mixture of old and new bytes", p)
		}
		f.data = data
		return
	}
}

// check compares a tree with the model and says how it differs.
func (m *model) check(t *testing.T, tree contract.Tree) string {
	t.Helper()
	dump := map[string]string{}
	if err := dumpTree(tree, ".", dump); err != nil {
		t.Fatal(err)
	}
	return strings.Join(m.differences(dump), "\n  ")
}

// openLocal serves the folder bundle in home in this process.
func openLocal(t *testing.T, home, spool string) (*vfs.Exclusive, *crasher) {
	t.Helper()
	local := &localNode{home: home}
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{Dial: local.dial, Root: "bundle", Spool: spool, Sessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	return x, &crasher{x: x, v: contract.VFS{Files: x, Root: vfs.RootIno}, link: local, open: map[int]contract.File{}}
}

func (c *crasher) must(t *testing.T, o op) answer {
	t.Helper()
	a, err := c.do(o)
	if err != nil {
		t.Fatalf("%v: %v", o, err)
	}
	return a
}

// copyTree copies a folder with its times to a new place.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	dirs := map[string]os.FileInfo{}
	err := filepath.Walk(from, func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch {
		case info.IsDir():
			dirs[at] = info
			return os.Mkdir(at, 0o700)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(target, at)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := os.WriteFile(at, b, info.Mode()); err != nil {
			return err
		}
		if err := os.Chmod(at, info.Mode()); err != nil {
			return err
		}
		return os.Chtimes(at, info.ModTime(), info.ModTime())
	})
	for at, info := range dirs {
		if err == nil {
			err = os.Chmod(at, info.Mode())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}
