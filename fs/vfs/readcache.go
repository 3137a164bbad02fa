package vfs

import (
	"container/list"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// readCache keeps what was fetched from the node, or sent to it, to be read again.
// It is in one local file without a name, of a bounded size, so that nothing of it
// outlives us; what was used least recently makes room. Where no such file can be
// made, or none is wanted, a little memory stands in for it: what was fetched ahead
// needs a place until it is read.
type readCache struct {
	dir  string
	most int64 // bytes; 0: in memory only
	log  *slog.Logger

	mu      sync.Mutex // guards what follows, and all cachedFiles
	store   store      // nil: not made yet
	slots   slots
	files   map[*cachedFile]struct{} // that have parts
	used    list.List                // of *cachedPart; those used least recently in front
	putting int                      // writers of parts that are not among them yet
}

type store interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

const (
	// memoryCache is how much is kept in memory where there is no file.
	memoryCache = 4 << 20
	// maxParts bounds what is known about parts: each takes some 200 bytes.
	maxParts = 32 << 10
)

// cachedFile is what is kept of one content of one file. When the content changes
// a new one takes its place.
type cachedFile struct {
	parts   []*cachedPart // by offset; they do not overlap
	dropped bool
}

// cachedPart is a part of a content, and where it is.
type cachedPart struct {
	file   *cachedFile
	off    int64
	n      int
	at     int64
	place  *list.Element
	pinned int  // readers and the writer that use it now
	gone   bool // its room is given back when nobody uses it
}

func (p *cachedPart) end() int64 { return p.off + int64(p.n) }

// begin makes the store; mu is held.
func (c *readCache) begin() {
	if c.store != nil {
		return
	}
	c.files = map[*cachedFile]struct{}{}
	c.slots.most = c.most
	if c.most >= slotMost {
		fd, err := unix.Open(c.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			c.store = os.NewFile(uintptr(fd), c.dir)
			return
		}
		c.log.Info("no file for the read cache, using a little memory", "folder", c.dir, "error", err)
	}
	c.store, c.slots.most = make(memory, memoryCache), memoryCache
}

// room is how many bytes can be kept.
func (c *readCache) room() int64 {
	if c.most >= slotMost {
		return c.most
	}
	return memoryCache
}

// read fills dest from off, if all of it is kept.
func (c *readCache) read(f *cachedFile, dest []byte, off int64) bool {
	if f == nil {
		return false
	}
	c.mu.Lock()
	parts := slices.Clone(f.cover(off, off+int64(len(dest))))
	if len(parts) == 0 {
		c.mu.Unlock()
		return false
	}
	for _, p := range parts {
		p.pinned++
		c.used.MoveToBack(p.place)
	}
	store := c.store
	c.mu.Unlock()
	var failed error
	for _, p := range parts {
		from, to := max(p.off, off), min(p.end(), off+int64(len(dest)))
		if _, err := store.ReadAt(dest[from-off:to-off], p.at+from-p.off); err != nil {
			failed = err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range parts {
		c.unpin(p)
		if failed != nil {
			c.remove(p)
		}
	}
	return failed == nil && !f.dropped
}

// covers reports whether a range is kept.
func (c *readCache) covers(f *cachedFile, off, n int64) bool {
	if f == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(f.cover(off, off+n)) > 0
}

// cover are the parts that a range is in, none if it is not in them as a whole;
// readCache.mu is held.
func (f *cachedFile) cover(off, end int64) []*cachedPart {
	l := f.within(off, end)
	for _, p := range l {
		if p.off > off {
			return nil
		}
		off = p.end()
	}
	if off < end {
		return nil
	}
	return l
}

// put keeps data, which the file has at off; without room for it nothing is kept.
func (c *readCache) put(f *cachedFile, off int64, data []byte) {
	for len(data) > 0 {
		n := min(len(data), slotMost)
		c.putPart(f, off, data[:n])
		off, data = off+int64(n), data[n:]
	}
}

func (c *readCache) putPart(f *cachedFile, off int64, data []byte) {
	end := off + int64(len(data))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	if f.dropped {
		return
	}
	if len(f.cover(off, end)) > 0 {
		return
	}
	at, ok := c.slots.take(len(data))
	for !ok || c.used.Len() >= maxParts {
		if !c.evict() {
			break
		}
		if !ok {
			at, ok = c.slots.take(len(data))
		}
	}
	if !ok {
		return
	}
	p := &cachedPart{file: f, off: off, n: len(data), at: at, pinned: 1, gone: true}
	store := c.store
	c.putting++
	c.mu.Unlock()
	_, err := store.WriteAt(data, at)
	c.mu.Lock()
	c.putting--
	if err == nil && !f.dropped {
		for _, old := range slices.Clone(f.within(off, end)) {
			c.remove(old)
		}
		p.gone = false
		p.place = c.used.PushBack(p)
		i := sort.Search(len(f.parts), func(i int) bool { return f.parts[i].off > off })
		f.parts = slices.Insert(f.parts, i, p)
		c.files[f] = struct{}{}
	}
	c.unpin(p)
	if isFull(err) {
		c.empty()
	}
}

// within are the parts that overlap a range; readCache.mu is held.
func (f *cachedFile) within(off, end int64) []*cachedPart {
	i := sort.Search(len(f.parts), func(i int) bool { return f.parts[i].end() > off })
	j := i
	for j < len(f.parts) && f.parts[j].off < end {
		j++
	}
	return f.parts[i:j]
}

// evict drops the part that was used least recently; mu is held.
func (c *readCache) evict() bool {
	for e := c.used.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*cachedPart); p.pinned == 0 {
			c.remove(p)
			return true
		}
	}
	return false
}

// remove forgets a part; mu is held.
func (c *readCache) remove(p *cachedPart) {
	if p.gone {
		return
	}
	p.gone = true
	c.used.Remove(p.place)
	if i := slices.Index(p.file.parts, p); i >= 0 {
		p.file.parts = slices.Delete(p.file.parts, i, i+1)
	}
	if len(p.file.parts) == 0 {
		delete(c.files, p.file)
	}
	p.pinned++
	c.unpin(p)
}

// unpin ends a use of a part; mu is held.
func (c *readCache) unpin(p *cachedPart) {
	p.pinned--
	if p.pinned == 0 && p.gone {
		c.slots.giveBack(p.at, p.n)
	}
}

// drop forgets a content: what is read or fetched of it now is not kept.
func (c *readCache) drop(f *cachedFile) {
	if f == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropFile(f)
}

// dropFile is drop; mu is held.
func (c *readCache) dropFile(f *cachedFile) {
	f.dropped = true
	for len(f.parts) > 0 {
		c.remove(f.parts[len(f.parts)-1])
	}
}

// clear gives back the room on the disk. Contents stay valid, and can be kept again.
func (c *readCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty()
}

// empty is clear; mu is held.
func (c *readCache) empty() {
	if c.store == nil {
		return
	}
	pinned := c.putting > 0
	for e := c.used.Front(); e != nil; e = e.Next() {
		pinned = pinned || e.Value.(*cachedPart).pinned > 0
	}
	for f := range c.files {
		for len(f.parts) > 0 {
			c.remove(f.parts[len(f.parts)-1])
		}
	}
	if !pinned { // else a reader would get zeros; the room is used again
		_ = c.store.Truncate(0)
	}
}

// close ends the cache; nobody uses it any more.
func (c *readCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		return nil
	}
	return c.store.Close()
}

// memory is a store of a fixed size. Parts of it that are used at the same time do
// not overlap, as readCache sees to.
type memory []byte

var errNoMemory = errors.New("behind the end of the memory")

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(m)) {
		return 0, errNoMemory
	}
	return copy(p, m[off:]), nil
}

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(m)) {
		return 0, errNoMemory
	}
	return copy(m[off:], p), nil
}

func (m memory) Truncate(int64) error { return nil }
func (m memory) Close() error         { return nil }
