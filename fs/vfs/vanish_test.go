package vfs_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
)

// TestVanished has a folder removed on the node, as a remote step does, while the journal
// tells of it. What gets its name here, or was on its way into or out of it, is not
// taken for what was there; neither by this mount nor by the next one.
func TestVanished(t *testing.T) {
	for name, try := range map[string]struct {
		before, after func(do *crasher) // before the folder is seen to be gone, and after
		want          map[string]string
	}{
		"folder again": {nil, func(do *crasher) {
			do.must(t, op{Kind: opMkdir, Path: "build", Mode: 0o755})
			put(t, do.v, "build/x", []byte("new"))
		}, map[string]string{"build/": "", "build/x": "new"}},
		"file again": {nil, func(do *crasher) { put(t, do.v, "build", []byte("new")) }, map[string]string{"build": "new"}},
		"new below": {func(do *crasher) { put(t, do.v, "build/sub/new", []byte("new")) }, nil,
			map[string]string{"build/": "", "build/sub/": "", "build/sub/new": "new"}},
		"moved in": {func(do *crasher) { do.must(t, op{Kind: opRename, Path: "f", To: "build/sub/f"}) }, nil,
			map[string]string{"build/": "", "build/sub/": "", "build/sub/f": "f"}},
		"moved out": {func(do *crasher) {
			do.must(t, op{Kind: opRename, Path: "build/sub/y", To: "z"})
			do.must(t, op{Kind: opRename, Path: "build/sub", To: "sub"})
			put(t, do.v, "sub/new", []byte("new"))
		}, nil, map[string]string{"sub/": "", "sub/new": "new"}},
		"removed too": {func(do *crasher) {
			do.must(t, op{Kind: opUnlink, Path: "build/sub/y"})
			do.must(t, op{Kind: opRmdir, Path: "build/sub"})
		}, nil, map[string]string{}},
	} {
		for _, crash := range []bool{false, true} {
			run := name
			if crash {
				run += ", mounted again"
			}
			t.Run(run, func(t *testing.T) {
				home, spool := t.TempDir(), filepath.Join(t.TempDir(), "spool")
				there := filepath.Join(home, "bundle")
				if err := os.Mkdir(there, 0o755); err != nil {
					t.Fatal(err)
				}
				x, do := openLocal(t, home, spool)
				do.must(t, op{Kind: opMkdir, Path: "build", Mode: 0o755})
				put(t, do.v, "build/x", []byte("x"))
				do.must(t, op{Kind: opMkdir, Path: "build/sub", Mode: 0o755})
				put(t, do.v, "build/sub/y", []byte("y"))
				put(t, do.v, "f", []byte("f"))
				do.must(t, op{Kind: opSync})
				list := func() {
					t.Helper()
					if _, err := do.v.List("."); err != nil {
						t.Fatal(err)
					}
				}
				vanish := func() {
					t.Helper()
					if err := os.RemoveAll(filepath.Join(there, "build")); err != nil {
						t.Fatal(err)
					}
				}
				want := maps.Clone(try.want)
				if _, moved := want["build/sub/f"]; !moved {
					want["f"] = "f"
				}
				if try.before != nil {
					// What is changed here waits; what is known there goes.
					release := vfs.Hold(x)
					try.before(do)
					vanish()
					x.Drop()
					list()
					if !crash {
						release()
					}
				} else {
					vanish()
					x.Drop()
					list()
					do.must(t, op{Kind: opCut})
					try.after(do)
				}
				if crash {
					do.must(t, op{Kind: opEnd})
					x, do = openLocal(t, home, spool)
				} else {
					do.must(t, op{Kind: opHeal})
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if err := x.Sync(ctx, nil); err != nil {
					t.Errorf("barrier: %v\n%s", err, vfs.Pending(x))
				}
				if got := files(t, do.v, "."); !maps.Equal(got, want) {
					t.Errorf("here: %q, want %q", got, want)
				}
				if got := files(t, contract.OS{Dir: there}, "."); !maps.Equal(got, want) {
					t.Errorf("on the node: %q, want %q", got, want)
				}
				do.must(t, op{Kind: opEnd})
			})
		}
	}
}

// TestBarrierWaitsForHidden removes a file while it is put together under a hidden name: a
// barrier that begins then returns when that name is gone from the node.
func TestBarrierWaitsForHidden(t *testing.T) {
	w, x, tree := newWatched(t)
	opened, removing := make(chan string, 1), make(chan bool)
	opens, removes := make(chan bool), make(chan bool)
	w.watch(func(q node.Request) {
		switch {
		case q.Name == "OPEN" && filepath.Base(q.Path) != "f":
			opened <- q.Path
			<-opens
		case q.Name == "REMOVE" && filepath.Base(q.Path) != "f":
			close(removing)
			<-removes
		}
	})
	release := vfs.Hold(x)
	put(t, tree, "f.new", []byte("content"))
	if err := tree.Rename("f.new", "f", false); err != nil {
		t.Fatal(err)
	}
	release()
	if p := <-opened; filepath.Base(p)[0] != '.' {
		t.Fatalf("%s is not hidden", p)
	}
	if err := tree.Unlink("f"); err != nil {
		t.Fatal(err)
	}
	waits, done := make(chan bool, 100), make(chan error, 1)
	go func() { done <- x.Sync(t.Context(), func(vfs.Progress) { waits <- true }) }()
	<-waits // it knows what it waits for
	close(opens)
	<-removing
	select {
	case err := <-done:
		t.Errorf("the barrier returned before the hidden name was removed: %v", err)
		done <- err
	case <-time.After(200 * time.Millisecond):
	}
	close(removes)
	if err := <-done; err != nil {
		t.Error(err)
	}
	contract.Compare(t, contract.OS{Dir: w.Root}, tree)
}
