package vfs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/node"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// watched is a node that shows each request before it is carried out.
type watched struct {
	*node.Node
	Root string // the folder that is mounted

	mu    sync.Mutex // guards what follows
	seen  []node.Request
	check func(q node.Request) // called for each
}

func newWatched(t *testing.T) (*watched, *vfs.Exclusive, contract.VFS) {
	t.Helper()
	w := &watched{}
	n, err := node.Start(node.Observe(w.observe))
	if err != nil {
		t.Fatal(err)
	}
	w.Node = n
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	root := fresh(t, n.Home)
	w.Root = filepath.Join(n.Home, root)
	x := newExclusive(t, n.Target(), root)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
	return w, x, contract.VFS{Files: x, Root: vfs.RootIno}
}

func (w *watched) observe(q node.Request) {
	w.mu.Lock()
	w.seen = append(w.seen, q)
	check := w.check
	w.mu.Unlock()
	if check != nil {
		check(q)
	}
}

func (w *watched) watch(check func(q node.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check = check
}

// count is how many requests there were that a condition holds for.
func (w *watched) count(is func(q node.Request) bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, q := range w.seen {
		if is(q) {
			n++
		}
	}
	return n
}

// named is a condition: a request of one of the kinds.
func named(kinds ...string) func(q node.Request) bool {
	return func(q node.Request) bool { return strings.Contains(strings.Join(kinds, " ")+" ", q.Name+" ") }
}

func synced(t *testing.T, x *vfs.Exclusive) {
	t.Helper()
	if err := x.Sync(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, tree contract.Tree, name string, content []byte) {
	t.Helper()
	f, err := tree.Open(name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(content); off += 4096 {
		if _, err := f.WriteAt(content[off:min(off+4096, len(content))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// whole is content that tells whether all of it is there.
func whole(version, size int) []byte {
	head := fmt.Sprintf("%d %d\n", version, size)
	return append([]byte(head), bytes.Repeat([]byte{byte('a' + version%26)}, size)...)
}

// isWhole reports whether a file on the node is whole, or is not there.
func isWhole(file string) error {
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var version, size int
	if _, err := fmt.Sscanf(string(b), "%d %d\n", &version, &size); err != nil || !bytes.Equal(b, whole(version, size)) {
		return fmt.Errorf("%s has half a content: %d bytes", file, len(b))
	}
	return nil
}

// TestOrder looks at the node before each of many requests: a folder is there
// before what is in it, a name that is given by renaming has the whole content
// from the first moment, and is never taken away in between.
func TestOrder(t *testing.T) {
	w, x, tree := newWatched(t)
	const writers, files, versions = 6, 4, 6
	final := func(i, j int) string { return fmt.Sprintf("d%d/e/f%d.final", i, j) }
	w.watch(func(q node.Request) {
		made := ""
		switch {
		case q.Name == "OPEN" || q.Name == "MKDIR":
			made = q.Path
		case q.Name == "SYMLINK" || strings.HasPrefix(q.Name, "posix-rename") || strings.HasPrefix(q.Name, "hardlink"):
			made = q.Path2
		case q.Name == "REMOVE" && strings.HasSuffix(q.Path, ".final"):
			t.Errorf("%s was removed", q.Path)
		case q.Name == "RENAME":
			t.Errorf("%s was renamed so that it may not replace %s", q.Path, q.Path2)
		}
		if made == "" {
			return
		}
		if _, err := os.Stat(path.Dir(made)); err != nil {
			t.Errorf("%s %s: its folder: %v", q.Name, made, err)
		}
		if strings.HasSuffix(made, ".final") && strings.HasPrefix(q.Name, "posix-rename") {
			if err := isWhole(q.Path); err != nil {
				t.Errorf("renamed to %s: %v", made, err)
			}
		}
		for i := range writers {
			if err := isWhole(filepath.Join(w.Root, final(i, 0))); err != nil {
				t.Error(err)
			}
		}
	})
	var running sync.WaitGroup
	for i := range writers {
		running.Go(func() {
			dir := fmt.Sprintf("d%d", i)
			for _, err := range []error{tree.Mkdir(dir, 0o755), tree.Mkdir(dir+"/e", 0o755), tree.Symlink("e", dir+"/l")} {
				if err != nil {
					t.Error(err)
				}
			}
			for v := range versions {
				for j := range files {
					tmp := final(i, j) + ".tmp"
					put(t, tree, tmp, whole(v, (v*7919+j*104729)%30000))
					if err := tree.Rename(tmp, final(i, j), false); err != nil {
						t.Error(err)
					}
				}
				if v%3 == i%3 {
					if err := x.Sync(context.Background(), nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	running.Wait()
	synced(t, x)
	contract.Compare(t, contract.OS{Dir: w.Root}, tree)
}

// What is made and removed before it was sent never is.
func TestNothingSentInVain(t *testing.T) {
	w, x, tree := newWatched(t)
	f, err := tree.Open("f", syscall.O_RDWR|syscall.O_CREAT, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("in vain"), 0); err != nil {
		t.Fatal(err)
	}
	if err := tree.Unlink("f"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	synced(t, x)
	if n := w.count(func(q node.Request) bool { return strings.HasSuffix(q.Path, "/f") }); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// hold keeps the first request that a condition holds for until release is called.
func (w *watched) hold(is func(q node.Request) bool) (held <-chan struct{}, release func()) {
	arrived, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.watch(func(q node.Request) {
		if is(q) {
			once.Do(func() { close(arrived) })
			<-free
		}
	})
	return arrived, func() { close(free) }
}

// Changes that follow each other fast become few, on a node that answers at once too.
func TestStormsAreFew(t *testing.T) {
	w, x, tree := newWatched(t)
	put(t, tree, "f", []byte("content"))
	synced(t, x)

	sets := named("SETSTAT", "FSETSTAT")
	before := w.count(sets)
	started := time.Now()
	for i := range 10000 {
		if err := tree.Chmod("f", uint32(0o600+i%0o100)); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			when := time.Unix(int64(i), 0)
			if err := tree.Utimes("f", when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	synced(t, x)
	most := 5 + 10*int(time.Since(started)/time.Second) // so many pauses a slow machine makes
	if n := w.count(sets) - before; n > most {
		t.Errorf("10000 chmods were %d requests, want %d at most", n, most)
	}
	// One alone needs no barrier.
	before = w.count(sets)
	if err := tree.Chmod("f", 0o640); err != nil {
		t.Fatal(err)
	}
	await(t, "a chmod is sent by itself", func() bool { return w.count(sets) == before+1 })

	opens := named("OPEN")
	before = w.count(opens)
	held, release := w.hold(opens)
	for i := range 100 {
		put(t, tree, "f", whole(i, 1000))
		if i == 0 {
			<-held
		}
	}
	release()
	synced(t, x)
	if n := w.count(opens) - before; n > 5 {
		t.Errorf("a file that was written 100 times was opened %d times", n)
	}
	contract.Compare(t, contract.OS{Dir: w.Root}, tree)
}

// waves counts how often the node must be waited for: what it answers is held back
// until nothing more is asked or answered, and then let through all at once. If one
// of the two is slow there may seem to be more of them, never fewer.
type waves struct {
	mu      sync.Mutex // guards what follows, and the sessions
	changed *sync.Cond // on mu
	last    time.Time  // when something was asked or answered
	on      bool
	held    int // bytes of answers
	count   int
	all     []*waved
}

// conn is a connection whose answers come in waves.
type conn struct {
	*remote.Client
	w *waves
}

func (c conn) OpenSubsystem(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	ch, err := c.Client.OpenSubsystem(ctx, name)
	if err != nil {
		return nil, err
	}
	s := &waved{ReadWriteCloser: ch, w: c.w}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.all = append(c.w.all, s)
	go s.pump()
	return s, nil
}

type waved struct {
	io.ReadWriteCloser
	w *waves

	held, free []byte
	err        error // at the end of free
}

// pump takes what the node answers until the session ends.
func (s *waved) pump() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.ReadWriteCloser.Read(buf)
		s.w.mu.Lock()
		s.held = append(s.held, buf[:n]...)
		s.w.held += n
		s.err = err
		s.w.last = time.Now()
		if !s.w.on || err != nil {
			s.w.release()
		}
		s.w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// release lets all answers through; mu is held.
func (w *waves) release() {
	for _, s := range w.all {
		s.free, s.held = append(s.free, s.held...), nil
	}
	w.held = 0
	w.last = time.Now()
	w.changed.Broadcast()
}

func (s *waved) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	s.w.last = time.Now()
	s.w.mu.Unlock()
	return s.ReadWriteCloser.Write(p)
}

func (s *waved) Read(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for len(s.free) == 0 && s.err == nil {
		s.w.changed.Wait()
	}
	n := copy(p, s.free)
	s.free = s.free[n:]
	if n == 0 {
		return 0, s.err
	}
	return n, nil
}

// run lets waves through until stop is closed, and returns how many there were.
func (w *waves) run(stop <-chan struct{}) int {
	const quiet = 100 * time.Millisecond
	tick := time.NewTicker(quiet / 10)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.on = false
			w.release()
			return w.count
		case <-tick.C:
		}
		w.mu.Lock()
		if w.held > 0 && time.Since(w.last) > quiet {
			w.count++
			w.release()
		}
		w.mu.Unlock()
	}
}

// Saving a file in an editor, with a backup, takes at most four round trips until
// the barrier returns.
func TestEditorSave(t *testing.T) {
	n := testnode.Start(t)
	root := fresh(t, n.Home)
	w := &waves{}
	w.changed = sync.NewCond(&w.mu)
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: func(ctx context.Context) (vfs.Conn, error) {
			c, err := remote.Dial(ctx, n.Target(), remote.Options{})
			if err != nil {
				return nil, err
			}
			return conn{c, w}, nil
		},
		Root: root, Spool: filepath.Join(t.TempDir(), "spool"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	tree := contract.VFS{Files: x, Root: vfs.RootIno}
	put(t, tree, "f", whole(1, 20000))
	synced(t, x)

	w.mu.Lock()
	w.on, w.last = true, time.Now()
	w.mu.Unlock()
	stop, done := make(chan struct{}), make(chan int)
	go func() { done <- w.run(stop) }()
	put(t, tree, "4913", nil) // may files be made here?
	if err := tree.Unlink("4913"); err != nil {
		t.Error(err)
	}
	if err := tree.Rename("f", "f~", false); err != nil {
		t.Error(err)
	}
	content := whole(2, 20000)
	f, err := tree.Open("f", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(content); off += 8192 {
		if _, err := f.WriteAt(content[off:min(off+8192, len(content))], int64(off)); err != nil {
			t.Error(err)
		}
	}
	for _, err := range []error{f.Sync(), f.Close(), tree.Chmod("f", 0o644), tree.Unlink("f~")} {
		if err != nil {
			t.Error(err)
		}
	}
	synced(t, x)
	close(stop)
	if count := <-done; count > 4 {
		t.Errorf("%d round trips", count)
	} else {
		t.Logf("%d round trips", count)
	}
	contract.Compare(t, contract.OS{Dir: filepath.Join(n.Home, root)}, tree)
}
