package vfs

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"bundlefs/internal/sftpwire"
)

// identity is what is known of a file on the node, to tell it from another one that
// has its name later: SFTP has no inode numbers. tree.mu guards it. Each open file has
// its own, of what the node has told of it by its handle: what has the name by then may
// be another file.
type identity struct {
	known       bool
	size, mtime int64 // as the node last told them; mtime in seconds
	// Whether it was written here since, and between which bounds its size must be then
	// if it is still the same file, and what its time must be at least.
	wrote     bool
	low, high int64
	least     int64
	apart     bool // another file had the name when both were last compared
}

// told takes what the node tells of the file itself.
func (i *identity) told(st *sftpwire.Stat) {
	*i = identity{known: true, size: wireSize(st), mtime: int64(st.Mtime), apart: i.apart}
}

// begin begins the bounds of a file that is changed for the first time since.
func (i *identity) begin() {
	if i.wrote {
		return
	}
	i.wrote, i.low, i.high, i.least = true, 0, 1<<62, 0
	if i.known {
		i.low, i.high, i.least = i.size, i.size, i.mtime
	}
}

// is reports whether attributes can be those of the file.
func (i *identity) is(st *sftpwire.Stat) bool {
	size, mtime := wireSize(st), int64(st.Mtime)
	switch {
	case saneMode(st.Permissions)&TypeMask != TypeRegular:
		return false
	case i.wrote:
		return i.low <= size && size <= i.high && i.least <= mtime
	}
	return !i.known || size == i.size && mtime == i.mtime
}

func wireSize(st *sftpwire.Stat) int64 { return int64(min(st.Size, 1<<63-1)) }

// identitiesLocked are what is known of n by its name and by its handles.
func (n *node) identitiesLocked() []*identity {
	all := []*identity{&n.file.identity}
	for _, f := range n.open {
		all = append(all, &f.identity)
	}
	return all
}

// isSameOpen reports whether attributes can be those of f, whose name was opened once more.
func (t *tree) isSameOpen(f *sharedFile, st *sftpwire.Stat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !f.identity.apart && f.identity.is(st)
}

// isOpen reports whether attributes can be those of one of n's open files.
func (t *tree) isOpen(n *node, st *sftpwire.Stat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range n.open {
		if !f.identity.apart && f.identity.is(st) {
			return true
		}
	}
	return len(n.open) == 0
}

// timesSet notes that the times of n are set, to whatever.
func (t *tree) timesSet(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range n.identitiesLocked() {
		i.begin()
		i.least = 0
	}
	t.wonderLocked(n)
}

// wonders is the open files of which it is to be found out what they are by now.
type wonders struct {
	nodes map[*node]struct{} // guarded by tree.mu
	some  chan struct{}      // has room for one
}

// wonderLocked has the node asked soon what the open files of n are.
func (t *tree) wonderLocked(n *node) {
	if len(n.open) == 0 || n.mode != TypeRegular {
		return
	}
	t.wonders.nodes[n] = struct{}{}
	select {
	case t.wonders.some <- struct{}{}:
	default:
	}
}

// newsLocked has it found out, if the name of n shows what its handles are not known for,
// whether it was changed there or replaced.
func (t *tree) newsLocked(n *node, a Attr) {
	for _, f := range n.open {
		i := &f.identity
		if n.file.pending == 0 && (i.wrote || i.known && (i.size != int64(min(a.Size, 1<<63-1)) || i.mtime != a.Mtime/int64(time.Second))) {
			t.wonderLocked(n)
			return
		}
	}
}

// identifyDelay is how long a change of an open file may be followed by more, or by its
// closing, before the node is asked what the file is now: most files are closed by then.
const identifyDelay = 200 * time.Millisecond

// identify keeps up what is known of open files until the file system is closed.
func (s *Shared) identify() {
	for {
		select {
		case <-s.tree.wonders.some:
		case <-s.link.ctx.Done():
			return
		}
		pause := time.NewTimer(identifyDelay)
		select {
		case <-pause.C:
		case <-s.link.ctx.Done():
			pause.Stop()
			return
		}
		s.tree.mu.Lock()
		nodes := s.tree.wonders.nodes
		s.tree.wonders.nodes = map[*node]struct{}{}
		s.tree.mu.Unlock()
		var asking errgroup.Group
		asking.SetLimit(8)
		for n := range nodes {
			for _, f := range s.tree.handles(n) {
				asking.Go(func() error { s.identifyFile(f); return nil })
			}
		}
		_ = asking.Wait() // none fails
	}
}

// identifyFile asks what an open file is now, and whether it still has its name. What is
// changed here meanwhile makes that void, and has it asked again.
func (s *Shared) identifyFile(f *sharedFile) {
	n := f.node
	s.tree.mu.Lock()
	clock, quiet := n.changed, n.file.pending == 0
	s.tree.mu.Unlock()
	h, ok, err := f.remote.now()
	if !ok || err != nil || !quiet {
		return // a reopening compares, and the end of what is being sent asks
	}
	p, named := s.tree.path(n)
	var before, there, after sftpwire.Stat
	var thereErr error
	_, err = on(s.link.ctx, s.link, h, func() (struct{}, error) {
		// In this order at the server, so that a file that grows meanwhile is known for it.
		ctx := context.Background()
		first := h.Fstat(h.id)
		name := h.Stat(p)
		last := h.Fstat(h.id)
		var err error
		if before, err = first.Wait(ctx); err != nil {
			return struct{}{}, err
		}
		there, thereErr = name.Wait(ctx)
		after, err = last.Wait(ctx)
		return struct{}{}, err
	}, nil)
	if err != nil || isLost(thereErr) {
		return
	}
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	if now, ok := s.tree.pathLocked(n); n.changed != clock || ok != named || now != p {
		if n.file.pending == 0 {
			s.tree.wonderLocked(n)
		}
		return
	}
	f.identity.told(&after)
	f.identity.apart = thereErr != nil || !between(before, there, after)
}

// between reports whether there can be the attributes of a file that had the others
// before and after.
func between(before, there, after sftpwire.Stat) bool {
	before.Atime, there.Atime, after.Atime = 0, 0, 0
	if there == before || there == after {
		return true
	}
	return before != after && before.Size <= there.Size && there.Size <= after.Size &&
		before.Mtime <= there.Mtime && there.Mtime <= after.Mtime
}
