package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bundlefs/internal/testnode"
)

// The kernel takes a folder's lock to drop one of its names. Who changes the folder meanwhile has
// that lock until he is answered: answers do not wait for what the kernel is told.
func TestDropWhileChanging(t *testing.T) {
	n := testnode.Start(t)
	m := newExclusiveMount(t, n, n.Target())
	dir := filepath.Join(m.Dir, "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("old", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	syncFolder(t, m.Dir)
	var over atomic.Bool
	var changing sync.WaitGroup
	for i := range 4 {
		changing.Go(func() {
			name := filepath.Join(dir, fmt.Sprint("new", i))
			for !over.Load() {
				if err := errors.Join(os.Mkdir(name, 0o755), os.Remove(name)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 100 {
		if _, err := os.ReadDir(dir); err != nil { // so that the kernel has names to drop
			t.Error(err)
		}
		if errno := m.tell(t, "drop"); errno != 0 {
			t.Error(errno)
		}
	}
	over.Store(true)
	changing.Wait()
}
