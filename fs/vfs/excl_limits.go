package vfs

import (
	"container/list"
	"context"
	"math/bits"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/sftpwire"
)

// cache keeps the local data of files that are on the node, up to a limit: what
// was just written is likely read.
type cache struct {
	spooled list.List // of *xnode with data in the spool, oldest first
	small   list.List // of *xnode with data in memory, oldest first
	slots   map[*xnode]slot
	bytes   int64 // in the spool
}

// slot is where a file is in the cache.
type slot struct {
	list  *list.List
	entry *list.Element
	bytes int64
}

// add takes n, all of whose local data is on the node, into the cache; mu is held.
func (c *cache) add(x *Exclusive, n *xnode) {
	c.drop(n)
	if c.slots == nil {
		c.slots = map[*xnode]slot{}
	}
	s := slot{list: &c.small}
	if n.data.mem == nil {
		s.list, s.bytes = &c.spooled, n.data.local.Bytes()
		c.bytes += s.bytes
	}
	s.entry = s.list.PushBack(n)
	c.slots[n] = s
	c.trim(x)
}

// drop takes n out of the cache; mu is held.
func (c *cache) drop(n *xnode) {
	if s, ok := c.slots[n]; ok {
		s.list.Remove(s.entry)
		delete(c.slots, n)
		c.bytes -= s.bytes
	}
}

// trim forgets the oldest data that nobody has open; mu is held.
func (c *cache) trim(x *Exclusive) {
	forget := func(l *list.List, tooMuch func() bool) {
		for e := l.Front(); e != nil && tooMuch(); {
			n := e.Value.(*xnode)
			e = e.Next()
			if n.opens == 0 && n.w == nil && !n.gate.busy {
				data := n.wholeSmall()
				x.dropData(n)
				if data != nil {
					x.fetched.put(x.cacheFile(n), 0, data)
				}
			}
		}
	}
	forget(&c.spooled, func() bool { return c.bytes > x.o.CacheMax/2 })
	forget(&c.small, func() bool { return x.memBytes > memKeep })
}

// clear forgets all data in the spool that nobody has open; mu is held.
func (c *cache) clear(x *Exclusive) {
	x.fetched.clear()
	for e := c.spooled.Front(); e != nil; {
		n := e.Value.(*xnode)
		e = e.Next()
		if n.opens == 0 && n.w == nil && !n.gate.busy && n.storing == 0 {
			x.dropData(n)
		}
	}
}

// space is what is known of the node's file system.
type space struct {
	known bool
	fs    StatFS
	taken time.Time
	asked time.Time // somebody wanted to know
}

// spaceAge is how old figures may be when it gets tight.
var spaceAge = time.Second

// available is how many bytes the node has left.
func (s *space) available() int64 { return s.fs.bytesLeft() }

// bytesLeft is how many bytes there is room for.
func (s StatFS) bytesLeft() int64 {
	high, low := bits.Mul64(s.Available, uint64(s.FragmentSize))
	if high > 0 {
		return 1 << 62
	}
	return int64(min(low, 1<<62))
}

// Statfs implements [FileSystem] from what is known; the figures are renewed
// behind. What is yet to be sent is taken already.
func (x *Exclusive) Statfs(ctx context.Context) (StatFS, error) {
	x.mu.Lock()
	known := x.space.known
	x.space.asked = time.Now()
	x.mu.Unlock()
	if !known {
		_ = alwaysDo(x.link, func(ctx context.Context) error { x.refreshSpace(ctx); return nil })
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	v := x.space.fs
	if v == (StatFS{}) {
		v = saneStatFS(nil)
	}
	if v.FragmentSize > 0 {
		pending := uint64(x.dirtyBytes) / uint64(v.FragmentSize)
		v.Free -= min(v.Free, pending)
		v.Available -= min(v.Available, pending)
	}
	return v, nil
}

// refreshSpace asks the node for its space.
func (x *Exclusive) refreshSpace(ctx context.Context) {
	v := statvfs(ctx, x.link, x.rootDir)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.space.taken = time.Now()
	x.space.known = true
	x.space.fs = saneStatFS(v)
}

// reserve finds room for n more bytes to be sent: it waits while the spool is
// full, and refuses what the node has no space for. mu is held, and let go meanwhile.
func (x *Exclusive) reserve(ctx context.Context, n int64) error {
	var overdue func() error
	full := func() bool { return x.dirtyBytes+x.storing > 0 && x.dirtyBytes+x.storing+n > x.o.SpoolMax }
	if full() {
		late, done := patient(ctx)
		defer done()
		ctx = late
		waited := x.newWait()
		defer waited.end()
		overdue = waited.overdue
	}
	for full() {
		if x.marks.n == 0 && x.storing == 0 { // all that waits is refused
			return syscall.ENOSPC
		}
		x.hurry()
		if err := x.waitChange(ctx); err != nil {
			return err
		}
		if err := overdue(); err != nil {
			return err
		}
		if err := x.writable(); err != nil {
			return err
		}
	}
	s := &x.space
	s.asked = time.Now()
	if s.known && x.dirtyBytes+n > s.available() && time.Since(s.taken) > spaceAge {
		x.mu.Unlock()
		x.refreshSpace(ctx)
		x.mu.Lock()
	}
	if s.known && s.fs.Blocks > 0 && x.dirtyBytes+n > s.available() {
		return syscall.ENOSPC
	}
	return nil
}

// statvfs asks for the figures of a file system; nil where the server cannot tell.
func statvfs(ctx context.Context, t *transport, p string) *sftpwire.StatVFS {
	v, err := ask(ctx, t, func(s *session) (*sftpwire.StatVFS, error) {
		if _, ok := s.Extension(sftpwire.ExtStatVFS); !ok {
			return nil, nil
		}
		return s.StatVFS(context.Background(), p)
	})
	if err != nil {
		return nil
	}
	return v
}

// errnoName is the name of an errno, as "ENOSPC".
func errnoName(e syscall.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return e.Error()
}

// counters count what was sent.
type counters struct {
	sent  int64 // actions
	bytes int64 // of data
}

// Status implements [FileSystem].
func (x *Exclusive) Status() Status {
	st := Status{Mode: "exclusive", Traffic: x.link.traffic()}
	c, _, err := x.link.state()
	if c != nil && !c.isLost() {
		st.Connected, st.Sessions = true, c.count()
	} else if err != nil {
		st.LinkError = err.Error()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	st.Inodes, st.Open = len(x.nodes), len(x.files)+len(x.dirs)
	st.Pending = Progress{Files: x.pending, Bytes: x.dirtyBytes}
	st.Refused = x.refusedList()
	if x.fence != nil {
		st.Fence = x.fence.Error()
	}
	st.Doubt, st.Unfenced = x.fenced.doubt, x.fenced.plain
	return st
}
