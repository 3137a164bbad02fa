package vfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/internal/node"
)

// TestOrderFolders looks at the node before each of many requests: a folder that is given
// its name by renaming has all that was in it from the first moment.
func TestOrderFolders(t *testing.T) {
	w, x, tree := newWatched(t)
	const writers, rounds = 4, 6
	files := []string{"a", "b", "sub/c", "sub/deep/d"}
	complete := func(final string) (there bool, err error) {
		if _, err := os.Stat(final); errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		for _, f := range files {
			if _, err := os.Stat(filepath.Join(final, f)); err != nil {
				return true, err
			}
			if err := isWhole(filepath.Join(final, f)); err != nil {
				return true, err
			}
		}
		return true, nil
	}
	final := func(i, round int) string { return fmt.Sprintf("w%d/final%d", i, round) }
	var mu sync.Mutex // guards seen
	seen := map[string]bool{}
	w.watch(func(q node.Request) {
		mu.Lock()
		defer mu.Unlock()
		for i := range writers {
			for round := range rounds {
				name := final(i, round)
				if seen[name] {
					continue
				}
				there, err := complete(filepath.Join(w.Root, name))
				if err != nil {
					t.Errorf("before %s %s: %v", q.Name, q.Path, err)
				}
				seen[name] = there
			}
		}
	})
	var running sync.WaitGroup
	for i := range writers {
		running.Go(func() {
			must := func(errs ...error) {
				if err := errors.Join(errs...); err != nil {
					t.Error(err)
				}
			}
			must(tree.Mkdir(fmt.Sprintf("w%d", i), 0o755))
			for round := range rounds {
				tmp := fmt.Sprintf("w%d/tmp%d", i, round)
				must(tree.Mkdir(tmp, 0o755), tree.Mkdir(tmp+"/sub", 0o700), tree.Mkdir(tmp+"/sub/deep", 0o755))
				if round%3 == 1 { // the folder is on the node before it moves
					synced(t, x)
				}
				for j, f := range files {
					put(t, tree, tmp+"/"+f, whole(round, (i*7919+j*104729)%60000))
				}
				if round%3 == 2 { // over an empty folder
					must(tree.Mkdir(tmp+".over", 0o755), tree.Rename(tmp, tmp+".over", false), tree.Rename(tmp+".over", final(i, round), false))
				} else {
					must(tree.Rename(tmp, final(i, round), false))
				}
				put(t, tree, final(i, round)+"/after", whole(round, 100))
			}
		})
	}
	running.Wait()
	synced(t, x)
	contract.Compare(t, contract.OS{Dir: w.Root}, tree)
}

// A folder that moves waits for nothing that can be done only after it.
func TestFoldersChangePlaces(t *testing.T) {
	w, x, tree := newWatched(t)
	for _, err := range []error{tree.Mkdir("a", 0o755), tree.Mkdir("a/sub", 0o755), tree.Mkdir("b", 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, tree, "a/f", whole(1, 100))
	put(t, tree, "a/sub/f", whole(2, 100))
	put(t, tree, "b/f", whole(3, 100))
	synced(t, x)
	for round := range 20 {
		put(t, tree, "a/f", whole(round, 5000))
		put(t, tree, "b/g", whole(round, 5000))
		for _, names := range [][2]string{
			{"a/f", "keep"}, {"b/f", "a/f"}, {"keep", "b/f"}, // the files change places
			{"a", "c"}, {"b", "a"}, {"c", "b"}, // the folders do
			{"b/sub", "out"}, {"b", "out/b"}, {"out/b", "b"}, {"out", "a/sub"}, {"a", "c"}, {"b", "a"}, {"c", "b"},
			{"b/sub", "a/sub"},
		} {
			if err := tree.Rename(names[0], names[1], false); err != nil {
				t.Fatalf("round %d: %s to %s: %v", round, names[0], names[1], err)
			}
		}
		if round%5 == 4 {
			synced(t, x)
		}
	}
	synced(t, x)
	contract.Compare(t, contract.OS{Dir: w.Root}, tree)
}
