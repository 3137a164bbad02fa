package vfs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(crashEnv); spec != "" {
		if err := crashChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// dial connects to a target. A connection that is refused is no connection.
func dial(target remote.Target) func(context.Context) (vfs.Conn, error) {
	return func(ctx context.Context) (vfs.Conn, error) {
		c, err := remote.Dial(ctx, target, remote.Options{})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

// newShared connects to a node; options that are nil get what a test needs.
func newShared(t *testing.T, target remote.Target, o vfs.SharedOptions) *vfs.Shared {
	t.Helper()
	o.Dial = dial(target)
	o.NameTimeout, o.AttrTimeout = time.Hour, time.Hour
	s, err := vfs.NewShared(t.Context(), o)
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

// fresh makes an empty folder in home and returns its name.
func fresh(t *testing.T, home string) string {
	t.Helper()
	dir, err := os.MkdirTemp(home, "t")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(dir)
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatal("waited in vain until " + what)
		case <-poll.C:
		}
	}
}

func TestSharedContract(t *testing.T) {
	n := testnode.Start(t)
	contract.Run(t, func(t *testing.T) contract.Tree {
		return contract.VFS{Files: newShared(t, n.Target(), vfs.SharedOptions{Root: fresh(t, n.Home)}), Root: vfs.RootIno}
	})
}

// A server of few sessions: one is enough for everything, and of two one is for data.
func TestFewSessions(t *testing.T) {
	for _, most := range []int{1, 2} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			n := testnode.Start(t, testnode.WithConfig(fmt.Sprintf("MaxSessions %d", most)))
			s := newShared(t, n.Target(), vfs.SharedOptions{Sessions: 4})
			if err := vfs.AwaitSessions(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if st := s.Status(); !st.Connected || st.Sessions != most {
				t.Errorf("status %+v", st)
			}
			tree := contract.VFS{Files: s, Root: vfs.RootIno}
			if err := tree.Mkdir("d", 0o755); err != nil {
				t.Error(err)
			}
		})
	}
}

// A mount can be used as soon as one session stands: a node may take long to start each.
func TestFirstSessionServes(t *testing.T) {
	n := testnode.Start(t)
	var opened atomic.Int32
	more := make(chan struct{})
	s, err := vfs.NewShared(t.Context(), vfs.SharedOptions{Sessions: 4, Dial: func(ctx context.Context) (vfs.Conn, error) {
		c, err := dial(n.Target())(ctx)
		return slowSessions{c, &opened, more}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tree := contract.VFS{Files: s, Root: vfs.RootIno}
	if err := tree.Mkdir("d", 0o755); err != nil {
		t.Error(err)
	}
	if got := s.Status().Sessions; got != 1 {
		t.Errorf("%d sessions", got)
	}
	close(more)
	if err := vfs.AwaitSessions(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := s.Status().Sessions; got != int(opened.Load()) || got < 5 {
		t.Errorf("%d sessions of %d", got, opened.Load())
	}
	if err := tree.Mkdir("e", 0o755); err != nil {
		t.Error(err)
	}
}

// slowSessions opens the first session at once, and the others when more is closed.
type slowSessions struct {
	vfs.Conn
	opened *atomic.Int32
	more   <-chan struct{}
}

func (c slowSessions) OpenSubsystem(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	if c.opened.Add(1) > 1 {
		<-c.more
	}
	return c.Conn.OpenSubsystem(ctx, name)
}

// withoutExtensions are the cases that need what pkg/sftp's server does not have.
var withoutExtensions = map[string]string{
	"Remove":        "its rmdir removes a file too (the kernel, which knows the type, does not ask for that)",
	"RenameRefused": "it does not rename a folder over an empty one",
	"Times":         "without lsetstat@openssh.com the times of a link cannot be set",
}

func TestServerWithoutExtensions(t *testing.T) {
	n, err := node.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	contract.RunExcept(t, withoutExtensions, func(t *testing.T) contract.Tree {
		return contract.VFS{Files: newShared(t, n.Target(), vfs.SharedOptions{Root: fresh(t, n.Home)}), Root: vfs.RootIno}
	})
}

func TestRootRefused(t *testing.T) {
	n := testnode.Start(t)
	if err := os.WriteFile(filepath.Join(n.Home, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for root, want := range map[string]string{
		"none": "none on the node: no such file or directory",
		"file": "file on the node: not a directory",
	} {
		s, err := vfs.NewShared(t.Context(), vfs.SharedOptions{Dial: dial(n.Target()), Root: root})
		if err == nil {
			s.Close()
		}
		if err == nil || err.Error() != want {
			t.Errorf("root %q: %v, want %s", root, err, want)
		}
	}
}

// After all that was looked up is forgotten, nothing is known any more.
func TestForget(t *testing.T) {
	n := testnode.Start(t)
	s := newShared(t, n.Target(), vfs.SharedOptions{})
	ctx := t.Context()
	uses := map[vfs.Ino]uint64{}
	use := func(e vfs.Entry, err error) vfs.Ino {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		uses[e.Attr.Ino]++
		return e.Attr.Ino
	}
	d := use(s.Mkdir(ctx, vfs.RootIno, "d", 0o755))
	for _, name := range []string{"a", "b", "c"} {
		e, o, err := s.Create(ctx, d, name, uint32(os.O_RDWR), 0o644)
		use(e, err)
		s.Release(o.Handle)
	}
	a := use(s.Lookup(ctx, d, "a"))
	use(s.Link(ctx, a, vfs.RootIno, "link"))
	use(s.Symlink(ctx, d, "s", "a"))
	for _, err := range []error{
		s.Rename(ctx, d, "b", vfs.RootIno, "moved", vfs.RenameReplace),
		s.Rename(ctx, d, "c", d, "a", vfs.RenameReplace),
		s.Unlink(ctx, d, "s"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o, err := s.OpenDir(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.ReadDir(ctx, o.Handle, true)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if e, ok := s.Instantiate(o.Handle, entries[0]); ok {
		use(e, nil)
	} else {
		t.Error("a listing just taken is not passed on")
	}
	s.ReleaseDir(o.Handle)
	for ino, n := range uses {
		s.Forget(ino, n)
	}
	if st := s.Status(); st.Inodes != 1 || st.Open != 0 {
		t.Errorf("status %+v, want the root alone", st)
	}
}

// A listing is passed on in parts; what was changed since is looked up again.
func TestOldListing(t *testing.T) {
	n := testnode.Start(t)
	s := newShared(t, n.Target(), vfs.SharedOptions{})
	for _, name := range []string{"f", "g"} {
		if err := os.WriteFile(filepath.Join(n.Home, name), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	o, err := s.OpenDir(ctx, vfs.RootIno)
	if err != nil {
		t.Fatal(err)
	}
	defer s.ReleaseDir(o.Handle)
	entries, err := s.ReadDir(ctx, o.Handle, true)
	if err != nil {
		t.Fatal(err)
	}
	told := func(name string) bool {
		t.Helper()
		for _, e := range entries {
			if e.Name == name {
				_, ok := s.Instantiate(o.Handle, e)
				return ok
			}
		}
		t.Fatalf("%s is not listed", name)
		return false
	}
	if !told("f") || !told("g") {
		t.Error("a fresh listing is not passed on")
	}
	tree := contract.VFS{Files: s, Root: vfs.RootIno}
	if err := tree.Truncate("f", 1); err != nil {
		t.Fatal(err)
	}
	if told("f") {
		t.Error("the old size is passed on")
	}
	if !told("g") {
		t.Error("a file beside it is not passed on")
	}
	if err := tree.Unlink("g"); err != nil {
		t.Fatal(err)
	}
	if told("g") {
		t.Error("a removed name is passed on")
	}
}

// One of two names of a file is given to another file on the node.
func TestLinkReplacedOnNode(t *testing.T) {
	n := testnode.Start(t)
	s := newShared(t, n.Target(), vfs.SharedOptions{})
	tree := contract.VFS{Files: s, Root: vfs.RootIno}
	f, err := tree.Open("f", os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("first"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := tree.Link("f", "g"); err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(n.Home, "next")
	if err := os.WriteFile(next, []byte("the second"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(n.Home, "g")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"f": "first", "g": "the second"} {
		f, err := tree.Open(name, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		k, _ := f.ReadAt(got, 0)
		if string(got[:k]) != want {
			t.Errorf("%s reads %q, want %q", name, got[:k], want)
		}
		f.Close()
	}
}

// A page of a mapped file goes where it was read, though the file is open for
// appending and has another name by now.
func TestMappedPageOfAppendedFile(t *testing.T) {
	n := testnode.Start(t)
	s := newShared(t, n.Target(), vfs.SharedOptions{})
	ctx := t.Context()
	path := filepath.Join(n.Home, "f")
	if err := os.WriteFile(path, []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := s.Lookup(ctx, vfs.RootIno, "f")
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Open(ctx, e.Attr.Ino, uint32(os.O_RDWR|os.O_APPEND))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(o.Handle)
	if err := s.Rename(ctx, vfs.RootIno, "f", vfs.RootIno, "g", vfs.RenameReplace); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(ctx, o.Handle, []byte("ABC"), 2, true); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(ctx, o.Handle, []byte("!"), 3, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(ctx, o.Handle); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"f": "another", "g": "01ABC56789!"} {
		if got, err := os.ReadFile(filepath.Join(n.Home, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}
