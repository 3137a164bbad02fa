package vfs

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"bundlefs/internal/sftpwire"
)

// Who reads the small files of a tree one after the other would wait two round trips
// for each. So the next ones are fetched ahead, with their attributes. Who opens such a
// file asks the node for its attributes, and the content is good if size and time are
// the same as they were, and old enough to tell.
//
// With -o kernel_cache nobody asks whether the content of a file is still what it was:
// it is opened without asking the node if it was fetched within the timeout of
// attributes, nothing that was heard or changed since speaks against it, and its reader
// has not paused: who does something on the node between two files takes longer than
// that, and finds it done.

// smallBytes bounds what was fetched ahead and is not dropped yet, of all files of a mount.
const smallBytes = 4 << 20

// smallLeast is what a file counts for at least: it is more than its content.
const smallLeast = 4 << 10

// fetchedFile is a small file as the node had it at one moment.
type fetchedFile struct {
	n     *node
	room  int64     // that it takes
	clock uint64    // node.changed then
	asked time.Time // when the node was asked for it

	done chan struct{} // closed when the rest is set
	nodeContent
	err error
}

// nodeContent is the content of a file with its attributes.
type nodeContent struct {
	st   sftpwire.Stat
	data []byte
}

// smallStore are the small files that were fetched ahead.
type smallStore struct {
	mu   sync.Mutex     // guards what follows
	wait []*fetchedFile // for who opens them, the oldest first
	used int64          // bytes of these, and of those that are open
}

// begin makes room for a file that is to be fetched, at the cost of the oldest; nil if
// it is there already, or there is no room.
func (m *smallStore) begin(n *node, clock uint64, size int64) *fetchedFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	room := max(size, smallLeast)
	if slices.ContainsFunc(m.wait, func(f *fetchedFile) bool { return f.n == n && f.clock == clock }) {
		return nil
	}
	for m.used+room > smallBytes && len(m.wait) > 0 && time.Since(m.wait[0].asked) > freshTime {
		m.used -= m.wait[0].room
		m.wait = slices.Delete(m.wait, 0, 1)
	}
	if m.used+room > smallBytes {
		return nil
	}
	f := &fetchedFile{n: n, room: room, clock: clock, asked: time.Now(), done: make(chan struct{})}
	m.wait, m.used = append(m.wait, f), m.used+room
	return f
}

// take gives a file to who opens it, nil if there is none; free ends its use.
func (m *smallStore) take(n *node) *fetchedFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.wait, func(f *fetchedFile) bool { return f.n == n })
	if i < 0 {
		return nil
	}
	f := m.wait[i]
	m.wait = slices.Delete(m.wait, i, i+1)
	return f
}

// drop drops those that the node was asked for before a moment.
func (m *smallStore) drop(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait = slices.DeleteFunc(m.wait, func(f *fetchedFile) bool {
		old := f.asked.Before(before)
		if old {
			m.used -= f.room
		}
		return old
	})
}

func (m *smallStore) free(f *fetchedFile) {
	if f == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= f.room
}

// readsAhead reports whether small files are fetched ahead: where the link is fast that
// is of no use.
func (s *Shared) readsAhead() bool {
	return !s.o.NoReadahead && !s.o.DirectIO && s.cache.attr > 0 && s.link.metrics.rtt.read() >= behindLeast
}

// pause is how long a program takes at least that does something on the node meanwhile.
func (s *Shared) pause() time.Duration { return 2 * s.link.metrics.rtt.read() }

// isSmall reports whether f is a small file from its beginning to its end.
func (f *sharedFile) isSmall() bool {
	size := f.told.Load()
	return !f.writable && size > 0 && size <= wholeMost
}

// fetchAhead implements [smallFiles].
func (s *Shared) fetchAhead(ctx context.Context, ino Ino) {
	n, err := s.tree.get(ino)
	if err != nil {
		return
	}
	clock, size, quiet := s.tree.quiet(n)
	p, ok := s.tree.path(n)
	if !quiet || !ok {
		return
	}
	f := s.small.begin(n, clock, size)
	if f == nil {
		return
	}
	defer close(f.done)
	question := s.cache.begin(path.Dir(p))
	defer s.cache.end(question)
	f.nodeContent, f.err = s.readSmall(ctx, p, int(size))
	// No lock is held meanwhile: who makes or moves files does not wait for this.
	if now, ok := s.tree.path(n); !ok || now != p || s.cache.wasChanged(question, path.Base(p)) {
		f.err = errReplaced
	}
	if f.err == nil {
		s.cache.put(question, path.Base(p), &f.st)
	}
}

var errNotSmall = errors.New("the file is not as it was listed")

// readSmall reads a file of the node that has at most so many bytes.
func (s *Shared) readSmall(ctx context.Context, p string, most int) (nodeContent, error) {
	link, err := s.link.get(ctx)
	if err != nil {
		return nodeContent{}, err
	}
	x := link.pickSender()
	return on(ctx, s.link, x, func() (c nodeContent, err error) {
		id, err := x.SendOpen(p, sftpwire.FlagRead, sftpwire.Attrs{}).Wait(context.Background())
		if err != nil {
			return c, err
		}
		// The attributes first: content that is newer does no harm.
		stat, read, closed := x.Fstat(id), x.SendRead(id, 0, most), x.CloseHandle(id)
		c.st, err = stat.Wait(context.Background())
		data, readErr := read.Wait(context.Background())
		c.data, err = data, errors.Join(err, readErr, closed.Wait(context.Background()))
		if err == nil && (saneMode(c.st.Permissions)&TypeMask != TypeRegular || c.st.Size != uint64(len(c.data))) {
			err = errNotSmall
		}
		return c, err
	}, nil)
}

// fetched gives what was fetched ahead of n, whose path is p, to who opens it, and
// whether it is good without asking the node. Its user frees it.
func (s *Shared) fetched(ctx context.Context, n *node, p string) (f *fetchedFile, good bool) {
	if f = s.small.take(n); f == nil {
		return nil, false
	}
	since, walks := s.next.arrived(n.ino, s.pause()) // before anything is waited for here
	leave := newLeaving(ctx)
	defer leave.stop()
	clock, _, quiet := s.tree.quiet(n)
	if leave.wait(f.done) != nil || f.err != nil || !quiet || f.clock != clock {
		s.small.free(f)
		return nil, false
	}
	if !walks || !s.o.KernelCache {
		return f, false
	}
	if oldest := time.Now().Add(-s.cache.attr); since.After(f.asked) || oldest.After(f.asked) {
		if since.After(oldest) {
			oldest = since
		}
		s.next.again(n.ino, func() { s.small.drop(oldest) })
		return f, false
	}
	st, asked, found := s.cache.look(p)
	return f, found != absent && (found == unknown || !asked.After(f.asked) || alike(st, &f.st))
}

// stillGood reports whether content that was fetched with one size and time is that of
// a file that has another one now.
func (f *fetchedFile) stillGood(st *sftpwire.Stat) bool {
	return alike(&f.st, st) && f.asked.Sub(time.Unix(int64(st.Mtime), 0)) > keepAge
}

// readFetched reads from what was fetched ahead of f, if that is what it has.
func (f *sharedFile) readFetched(dest []byte, off int64) (n int, ok bool) {
	small := f.fetched.Load()
	if small == nil || off >= int64(len(small.data)) { // behind its end the node is asked
		return 0, false
	}
	return copy(dest, small.data[off:]), true
}

// dropFetched drops what was read of f ahead: of a range, n < 0: to the end.
func (s *Shared) dropFetched(f *sharedFile, off, n int64) {
	s.small.free(f.fetched.Swap(nil))
	if r := f.ahead.Load(); r != nil {
		r.Invalidate(off, n)
	}
}

// openFetched opens a file by what was fetched ahead of it, without the node.
func (s *Shared) openFetched(n *node, p string, flags uint32, small *fetchedFile) Opened {
	f := newSharedFile(p, flags)
	f.fetched.Store(small)
	return s.opened(f, n, &small.st)
}

// holdOpen opens on the node the open files of n that are open here alone, since its
// name is about to be taken away.
func (s *Shared) holdOpen(ctx context.Context, n *node) error {
	if n == nil {
		return nil
	}
	for _, f := range s.tree.handles(n) {
		if f.fetched.Load() == nil {
			continue
		}
		if _, err := s.handle(ctx, f); err != nil && !errors.Is(err, errReplaced) {
			return err
		}
	}
	return nil
}

// following implements [smallFiles].
func (s *Shared) following(ino Ino, count int) []nextFile {
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	n := s.tree.nodes[ino]
	if n == nil {
		return nil
	}
	return filesAfter(s.tree, n, count)
}

var _ smallFiles = (*Shared)(nil)

// quiet tells when n was last changed here and how long it is as far as is known,
// and whether it is a small file that nobody writes.
func (t *tree) quiet(n *node) (clock uint64, size int64, quiet bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size = n.size
	quiet = n.mode == TypeRegular && n.file.pending == 0 && size > 0 && size <= wholeMost
	for _, f := range n.open {
		quiet = quiet && !f.writable
	}
	return n.changed, size, quiet
}

// above implements [fileTree]; mu is held.
func (t *tree) above(n *node) (dir *node, name string, ok bool) {
	if n.ino == RootIno || len(n.links) == 0 {
		return nil, "", false
	}
	return n.links[0].parent, n.links[0].name, true
}

// sorted implements [fileTree]; mu is held.
func (t *tree) sorted(dir *node) []string {
	if len(dir.children) > aheadEntries {
		return nil
	}
	return slices.Sorted(maps.Keys(dir.children))
}

// below implements [fileTree]; mu is held.
func (t *tree) below(dir *node, name string) (sub *node, file *nextFile) {
	switch c := dir.children[name]; {
	case c == nil:
	case c.mode == TypeDir && len(c.children) > 0:
		return c, nil
	case c.mode == TypeRegular && c.size > 0 && c.size <= wholeMost:
		return nil, &nextFile{c.ino, dir.ino, c.size}
	}
	return nil, nil
}
