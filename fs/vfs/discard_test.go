package vfs_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// closing is a mount of a node whose user may not change the folder d for a while. It is
// mounted again and again with one spool.
type closing struct {
	*testing.T
	node  *testnode.Node
	link  *testnode.Link
	spool string
	x     *vfs.Exclusive
	tree  contract.VFS
}

func newClosing(t *testing.T) *closing {
	t.Helper()
	n := testnode.Start(t, testnode.AsUser())
	c := &closing{T: t, node: n, link: testnode.NewLink(t, n.Addr), spool: filepath.Join(t.TempDir(), "spool")}
	c.mount()
	c.must(c.tree.Mkdir("d", 0o755))
	t.Cleanup(func() { c.allow(0o755) })
	return c
}

func (c *closing) must(errs ...error) {
	c.Helper()
	if err := errors.Join(errs...); err != nil {
		c.Fatal(err)
	}
}

func (c *closing) mount() {
	c.Helper()
	x, err := vfs.NewExclusive(c.Context(), vfs.ExclusiveOptions{Dial: dial(c.node.TargetVia(c.link)), Spool: c.spool})
	c.must(err)
	c.x, c.tree = x, contract.VFS{Files: x, Root: vfs.RootIno}
}

// remount ends the mount while something waits in its spool, and mounts again.
func (c *closing) remount() {
	c.Helper()
	c.link.Refuse()
	c.link.Reset()
	put(c, c.tree, "pending", []byte("x"))
	c.must(c.x.Close())
	c.link.Heal()
	c.mount()
}

func (c *closing) allow(mode os.FileMode) {
	c.Helper()
	c.must(os.Chmod(filepath.Join(c.node.Home, "d"), mode))
}

// files are the files and folders of a tree with their content.
func files(t testing.TB, tree contract.Tree, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := tree.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		p := strings.TrimPrefix(dir+"/"+name, "./")
		a, err := tree.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		if a.Mode&vfs.TypeMask == vfs.TypeDir {
			all[p+"/"] = ""
			maps.Copy(all, files(t, tree, p))
			continue
		}
		b, err := readTree(tree, p)
		if err != nil {
			t.Fatal(err)
		}
		all[p] = string(b)
	}
	return all
}

// has compares the folder d, here and on the node.
func (c *closing) has(want map[string]string) {
	c.Helper()
	if got := files(c, c.tree, "d"); !maps.Equal(got, want) {
		c.Errorf("here: %q, want %q", got, want)
	}
	if got := files(c, contract.OS{Dir: c.node.Home}, "d"); !maps.Equal(got, want) {
		c.Errorf("on the node: %q, want %q", got, want)
	}
}

// TestDiscardSurvives gives up changes of names and mounts again: what was on the node
// is there, here and there.
func TestDiscardSurvives(t *testing.T) {
	for name, try := range map[string]struct {
		change  func(c *closing) error
		refused []string // these are given up, one by one
	}{
		"rename":        {func(c *closing) error { return c.tree.Rename("d/a", "d/new", false) }, []string{"d/new"}},
		"rename over":   {func(c *closing) error { return c.tree.Rename("d/a", "d/b", false) }, []string{"d/b"}},
		"rename out":    {func(c *closing) error { return c.tree.Rename("d/a", "out", false) }, []string{"out"}},
		"rename folder": {func(c *closing) error { return c.tree.Rename("d/sub", "d/new", false) }, []string{"d/new"}},
		"swap": {func(c *closing) error {
			return errors.Join(c.tree.Rename("d/a", "d/c", false), c.tree.Rename("d/b", "d/a", false), c.tree.Rename("d/c", "d/b", false))
		}, nil},
		"unlink": {func(c *closing) error { return c.tree.Unlink("d/a") }, []string{"d/a"}},
		"unlink after writing": {func(c *closing) error {
			return errors.Join(writeFile(c.tree, "d/a", "changed"), c.tree.Unlink("d/a"))
		}, []string{"d/a"}},
		"new": {func(c *closing) error {
			return errors.Join(c.tree.Mkdir("d/new", 0o755), writeFile(c.tree, "d/new/f", "f"), c.tree.Rename("d/a", "d/new/a", false))
		}, []string{"d/new"}},
		"folder removed": {func(c *closing) error {
			return errors.Join(c.tree.Unlink("d/sub/f"), c.tree.Rmdir("d/sub"), c.tree.Unlink("d/a"), c.tree.Unlink("d/b"), c.tree.Rmdir("d"))
		}, []string{"d"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			c := newClosing(t)
			put(t, c.tree, "d/a", []byte("precious"))
			put(t, c.tree, "d/b", []byte("valued"))
			c.must(c.tree.Mkdir("d/sub", 0o755))
			put(t, c.tree, "d/sub/f", []byte("below"))
			synced(t, c.x)
			want := map[string]string{"d/a": "precious", "d/b": "valued", "d/sub/": "", "d/sub/f": "below"}
			c.allow(0o500)
			c.must(try.change(c))
			if name == "folder removed" { // which is not in d itself
				delete(want, "d/sub/f")
			}
			got := refusals(t, c.x, syscall.EACCES)
			if try.refused == nil {
				try.refused = got[:1]
			}
			for _, p := range try.refused {
				if count, err := c.x.Discard(p); count == 0 || err != nil {
					t.Errorf("discard %s: %d, %v; refused are %q", p, count, err, got)
				}
			}
			synced(t, c.x)
			c.has(want)
			c.allow(0o755)
			c.remount()
			synced(t, c.x)
			c.has(want)
			// The names are as good as any.
			c.must(writeFile(c.tree, "d/a", "PRE"), c.tree.Rename("d/a", "d/new", false), c.tree.Unlink("d/b"))
			synced(t, c.x)
			delete(want, "d/a")
			delete(want, "d/b")
			want["d/new"] = "PREcious"
			c.has(want)
			c.must(c.x.Close())
		})
	}
}

// A refused renaming is not given up while its old name is a new file's: either would be lost.
func TestDiscardInTheWay(t *testing.T) {
	c := newClosing(t)
	put(t, c.tree, "d/a", []byte("precious"))
	synced(t, c.x)
	c.allow(0o500)
	c.must(c.tree.Rename("d/a", "d/b", false), writeFile(c.tree, "d/a", "new"))
	refusals(t, c.x, syscall.EACCES)
	if count, err := c.x.Discard("d/b"); count != 0 || vfs.Errno(err) != syscall.EEXIST || !strings.Contains(err.Error(), "d/a") {
		t.Errorf("discarded %d, %v", count, err)
	}
	if got := files(t, c.tree, "d"); !maps.Equal(got, map[string]string{"d/a": "new", "d/b": "precious"}) {
		t.Errorf("here: %q", got)
	}
	c.must(c.tree.Rename("d/a", "moved", false))
	if count, err := c.x.Discard("d/b"); count != 1 || err != nil {
		t.Errorf("discarded %d, %v", count, err)
	}
	synced(t, c.x)
	c.has(map[string]string{"d/a": "precious"})
	if b, err := os.ReadFile(filepath.Join(c.node.Home, "moved")); string(b) != "new" {
		t.Errorf("moved: %q, %v", b, err)
	}

	// Who gives up all gives up that, too.
	c.must(c.tree.Rename("d/a", "d/b", false), writeFile(c.tree, "d/a", "new"))
	refusals(t, c.x, syscall.EACCES)
	if count, err := c.x.Discard(""); count != 1 || err != nil {
		t.Errorf("discarded %d, %v", count, err)
	}
	synced(t, c.x)
	c.has(map[string]string{"d/a": "precious"})
	c.must(c.x.Close())
}

// staleNames is a kernel that notes what it is told of.
type staleNames struct {
	x     *vfs.Exclusive
	names []string
}

func (s *staleNames) InvalidateEntry(_ vfs.Ino, name string) { s.names = append(s.names, name) }
func (s *staleNames) InvalidateInode(vfs.Ino)                {}

// TestDiscardTellsKernel has each name dropped by the kernel that is another's or
// nobody's by now; who opens a file that was given up is told to look again.
func TestDiscardTellsKernel(t *testing.T) {
	c := newClosing(t)
	for _, name := range []string{"d/a", "d/b"} {
		put(t, c.tree, name, []byte(name))
	}
	synced(t, c.x)
	c.allow(0o500)
	kernel := &staleNames{x: c.x}
	c.x.SetNotifier(kernel)
	c.must(c.tree.Mkdir("d/new", 0o755), writeFile(c.tree, "d/new/f", "x"), c.tree.Rename("d/a", "d/c", false), c.tree.Unlink("d/b"))
	f, err := c.tree.Lstat("d/new/f")
	c.must(err)
	refusals(t, c.x, syscall.EACCES)
	if _, err := c.x.Discard("d"); err != nil {
		t.Error(err)
	}
	slices.Sort(kernel.names)
	if names := slices.Compact(kernel.names); !slices.Equal(names, []string{"a", "b", "c", "f", "new"}) {
		t.Errorf("the kernel was told of %q", names)
	}
	if _, err := c.x.Open(t.Context(), vfs.Ino(f.Ino), syscall.O_WRONLY); vfs.Errno(err) != syscall.ESTALE {
		t.Errorf("opening what was given up: %v", err)
	}
	synced(t, c.x)
	c.must(c.x.Close())
}

// TestDiscardWhileWriting gives up what the node refuses of a file again and again while a program goes
// on writing it: barriers tell of the refusal all the same. What is given up is given up whole, and what
// is written afterwards is not lost.
func TestDiscardWhileWriting(t *testing.T) {
	c := newClosing(t)
	const blocks, size = 16, 4096
	put(t, c.tree, "d/f", bytes.Repeat([]byte("o"), blocks*size))
	synced(t, c.x)
	on := filepath.Join(c.node.Home, "d/f")
	c.must(os.Chmod(on, 0o400))
	f, err := c.tree.Open("d/f", syscall.O_WRONLY, 0)
	c.must(err)
	defer f.Close()
	write := func(with byte) error {
		for i := range blocks {
			if _, err := f.WriteAt(bytes.Repeat([]byte{with}, size), int64(i*size)); err != nil {
				return err
			}
		}
		return nil
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for with := byte('a'); ; with = 'a' + (with-'a'+1)%26 {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := write(with); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 3 {
		eventually(t, "something is written", func() bool {
			st := c.x.Status()
			return st.Pending.Files > 0 || len(st.Refused) > 0
		})
		var refused *vfs.RefusedError
		if err := c.x.Sync(t.Context(), nil); !errors.As(err, &refused) {
			t.Fatalf("barrier while it is written: %v", err)
		}
		eventually(t, "it is refused, and not just tried again", func() bool {
			_, err := c.x.Discard("d/f")
			if !errors.Is(err, syscall.ENOENT) {
				c.must(err)
			}
			return err == nil
		})
	}
	close(stop)
	c.must(<-ended)
	if err := c.x.Sync(t.Context(), nil); err != nil { // the last round was written whole by then
		_, err := c.x.Discard("d/f")
		c.must(err)
	}
	c.has(map[string]string{"d/f": strings.Repeat("o", blocks*size)})
	c.must(os.Chmod(on, 0o600), write('z'))
	synced(t, c.x)
	c.has(map[string]string{"d/f": strings.Repeat("z", blocks*size)})
	c.must(f.Close(), c.x.Close())
}
