package vfs

import (
	"context"
	"maps"
	"slices"
)

// wholeMost is the largest file that is fetched as a whole, whatever part of it
// is read.
const wholeMost = 64 << 10

// wholeFetch is a small file on its way.
type wholeFetch struct {
	done chan struct{} // closed when data or err is set
	data []byte
	err  error
}

// read takes part of the file when it is there.
func (w *wholeFetch) read(ctx context.Context, dest []byte, off int64) (int, error) {
	leave := newLeaving(ctx)
	defer leave.stop()
	if err := leave.wait(w.done); err != nil {
		return 0, err
	}
	if w.err != nil {
		return 0, w.err
	}
	return copy(dest, w.data[min(off, int64(len(w.data))):]), nil
}

// wholeSmall is the content of n if it is in memory as a whole, else nil; mu is held.
func (n *xnode) wholeSmall() []byte {
	d, size := n.data, int64(n.attr.Size)
	if d == nil || d.mem == nil || n.stale || size > int64(len(d.mem)) || !d.local.Covers(0, size) {
		return nil
	}
	return d.mem[:size]
}

// isWhole says that n is small and that all of it is as on the node; mu is held.
func (n *xnode) isWhole() bool {
	return n.isFile() && n.data == nil && !n.stale && n.storing == 0 && n.attr.Size <= wholeMost && len(n.places) > 0
}

// fetchWhole has a small file fetched; whoever wants it meanwhile waits for the
// same. mu is held.
func (x *Exclusive) fetchWhole(n *xnode) *wholeFetch {
	if n.whole != nil {
		return n.whole
	}
	w := &wholeFetch{done: make(chan struct{})}
	n.whole = w
	size, file := int(n.attr.Size), x.cacheFile(n)
	x.reading.fetches.Go(func() {
		w.data, w.err = x.readWhole(x.ctx, n, size)
		if w.err == nil {
			x.fetched.put(file, 0, w.data)
		}
		x.mu.Lock()
		if n.whole == w {
			n.whole = nil
		}
		x.mu.Unlock()
		close(w.done)
	})
	return w
}

// readWhole opens, reads and closes a file of the node.
func (x *Exclusive) readWhole(ctx context.Context, n *xnode, size int) ([]byte, error) {
	for {
		c, err := x.link.get(ctx)
		if err != nil {
			return nil, err
		}
		h, err := x.openNode(ctx, n, c, c.pickSender())
		var data []byte
		if err == nil {
			data, err = h.readAll(ctx, x.link, size)
			h.close()
		}
		if !isLost(err) || x.ctx.Err() != nil {
			return data, err
		}
		c.fail()
	}
}

// readAll reads a small file from its beginning, in packets that a server takes.
func (h nodeHandle) readAll(ctx context.Context, t *transport, size int) ([]byte, error) {
	var all []byte
	for len(all) < size {
		n := min(size-len(all), h.c.packet())
		data, err := h.read(ctx, t, int64(len(all)), n)
		if err != nil {
			return nil, err
		}
		all = append(all, data...)
		if len(data) < n {
			break
		}
	}
	return all, nil
}

// fetchAhead implements [smallFiles].
func (x *Exclusive) fetchAhead(ctx context.Context, ino Ino) {
	x.mu.Lock()
	n := x.nodes[ino]
	if n == nil || !n.isWhole() || n.attr.Size == 0 || x.draining || x.fetched.covers(n.fetched, 0, int64(n.attr.Size)) {
		x.mu.Unlock()
		return
	}
	w := x.fetchWhole(n)
	x.mu.Unlock()
	select {
	case <-w.done: // an error is for who reads it
	case <-ctx.Done():
	}
}

// order is the order of the names in a folder that is read through.
type order struct {
	n     *xnode
	count int // of children then
	names []string
}

// sorted implements [fileTree]; mu is held.
func (x *Exclusive) sorted(n *xnode) []string {
	if o := &x.order; o.n != n || o.count != len(n.children) {
		*o = order{n, len(n.children), slices.Sorted(maps.Keys(n.children))}
	}
	return x.order.names
}

// above implements [fileTree]; mu is held.
func (x *Exclusive) above(n *xnode) (dir *xnode, name string, ok bool) {
	if n.ino == RootIno || len(n.links) == 0 {
		return nil, "", false
	}
	return n.links[0].parent, n.links[0].name, true
}

// below implements [fileTree]; mu is held.
func (x *Exclusive) below(dir *xnode, name string) (sub *xnode, file *nextFile) {
	switch c := dir.found(name); {
	case c == nil:
	case c.isDir() && c.complete && len(c.children) > 0:
		return c, nil
	case c.isWhole():
		return nil, &nextFile{c.ino, dir.ino, int64(c.attr.Size)}
	}
	return nil, nil
}

// following implements [smallFiles]: it goes through the folders that are known.
func (x *Exclusive) following(ino Ino, count int) []nextFile {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.nodes[ino]
	if n == nil {
		return nil
	}
	return filesAfter(x, n, count)
}

var _ smallFiles = (*Exclusive)(nil)
