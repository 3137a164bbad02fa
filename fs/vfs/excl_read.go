package vfs

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"bundlefs/internal/sftpwire"
)

// nodeReader reads the content that a file has on the node, over several sessions
// of one connection when it is much.
type nodeReader struct {
	x     *Exclusive
	n     *xnode
	ahead *readAhead

	mu      sync.Mutex // guards what follows; held while the file is opened
	handles []nodeHandle
	wide    bool // opened on the other sessions too, or that is under way
	closed  bool
	asked   int64 // bytes that are on their way
}

// nodeHandle is a file that is open on one session.
type nodeHandle struct {
	c      *connection
	s      *session
	handle string
}

func (h nodeHandle) close() { h.s.CloseHandle(h.handle) }

// readerOf is the reader of n, which is open; x.mu is held.
func (x *Exclusive) readerOf(n *xnode) *nodeReader {
	if n.reader == nil {
		r := &nodeReader{x: x, n: n}
		r.ahead = newReadAhead(r.fetch, x.reading, x.packet())
		n.reader = r
	}
	n.reader.ahead.SetSize(n.onNode())
	return n.reader
}

// packet is how much one request reads.
func (x *Exclusive) packet() int {
	if c, _, _ := x.link.state(); c != nil {
		return c.packet()
	}
	return basePacket
}

// onNode is how much of n's content the node has; mu is held.
func (n *xnode) onNode() int64 {
	if n.data != nil {
		return n.data.base
	}
	return int64(n.attr.Size)
}

// closeReader ends the reader of a file that nobody has open any more; mu is held.
func (x *Exclusive) closeReader(n *xnode) {
	r := n.reader
	n.reader = nil
	r.ahead.Close()
	// Nobody waits for it, least of all the end of the mount.
	x.tasks.Go(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = true
		for _, h := range r.handles {
			if !h.c.isLost() {
				h.close()
			}
		}
		r.handles = nil
	})
}

// closeReaders ends all reading, and waits for it.
func (x *Exclusive) closeReaders() {
	x.mu.Lock()
	for _, n := range x.nodes {
		if n.reader != nil {
			x.closeReader(n)
		}
	}
	x.mu.Unlock()
	x.reading.close()
}

// cacheFile is where what is fetched of n is kept; mu is held.
func (x *Exclusive) cacheFile(n *xnode) *cachedFile {
	if n.fetched == nil {
		n.fetched = &cachedFile{}
	}
	return n.fetched
}

// forgetFetched forgets what was fetched of n: the node has, or may have, other
// content by now. mu is held.
func (x *Exclusive) forgetFetched(n *xnode) {
	x.fetched.drop(n.fetched)
	n.fetched, n.whole = nil, nil
	if n.reader != nil {
		n.reader.ahead.Invalidate(0, -1)
	}
}

// readNode reads content that is on the node, and tells whether it was kept here.
func (x *Exclusive) readNode(ctx context.Context, n *xnode, dest []byte, off int64) (kept bool, err error) {
	x.mu.Lock()
	if n.opens == 0 { // closed meanwhile
		x.mu.Unlock()
		return false, syscall.EBADF
	}
	small := n.isWhole()
	if small && off == 0 {
		x.next.read(n.ino)
	}
	file := n.fetched
	if n.stale {
		file = nil
	}
	// What was read ahead is kept, too; but who reads on must be seen to do so.
	ahead := n.reader != nil && n.reader.ahead.covers(off, int64(len(dest)))
	x.mu.Unlock()
	if !ahead && x.fetched.read(file, dest, off) {
		return true, nil
	}
	x.mu.Lock()
	if n.opens == 0 {
		x.mu.Unlock()
		return false, syscall.EBADF
	}
	var got int
	if small && n.isWhole() {
		w := x.fetchWhole(n)
		x.mu.Unlock()
		got, err = w.read(ctx, dest, off)
	} else {
		r := x.readerOf(n)
		x.mu.Unlock()
		got, err = r.ahead.ReadAt(ctx, dest, off)
	}
	if err == nil && got < len(dest) {
		err = errors.Join(syscall.EIO, io.ErrUnexpectedEOF) // somebody else has cut the file
		x.mu.Lock()
		if n.onNode() < off+int64(len(dest)) {
			err = errMoved // or we have
		}
		x.mu.Unlock()
	}
	return false, err
}

// fetch is one read of the node, on the session with the least to do. A connection
// that is lost is waited for, and the file opened again.
func (r *nodeReader) fetch(ctx context.Context, off int64, n int) ([]byte, error) {
	r.x.mu.Lock()
	var file *cachedFile
	if !r.n.stale {
		file = r.x.cacheFile(r.n)
	}
	r.x.mu.Unlock()
	if r.x.fetched.covers(file, off, int64(n)) {
		if data := make([]byte, n); r.x.fetched.read(file, data, off) {
			return data, nil
		}
	}
	for {
		h, err := r.handle(ctx, n)
		if isLost(err) && r.x.ctx.Err() == nil {
			continue // handle has said so
		}
		if err != nil {
			return nil, err
		}
		data, err := h.read(ctx, r.x.link, off, n)
		r.mu.Lock()
		r.asked -= int64(n)
		r.mu.Unlock()
		if err == nil && file != nil {
			r.x.fetched.put(file, off, data)
		}
		if !isLost(err) || r.x.ctx.Err() != nil {
			return data, err
		}
		h.c.fail()
	}
}

// read reads n bytes, fewer only at the end of the file. A server may send fewer
// than it was asked for.
func (h nodeHandle) read(ctx context.Context, t *transport, off int64, n int) ([]byte, error) {
	h.s.inflight.Add(1)
	defer h.s.inflight.Add(-1)
	var all []byte
	for {
		data, err := answered(ctx, t, h.s, h.s.SendRead(h.handle, uint64(off)+uint64(len(all)), n-len(all)).Wait)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = data
		} else {
			all = append(all, data...)
		}
		if len(all) == n {
			return all, nil
		}
	}
}

// handle is the file open on the session with the least to do, for a read of n bytes.
func (r *nodeReader) handle(ctx context.Context, n int) (nodeHandle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.handles) > 0 && r.handles[0].c.isLost() {
		r.handles, r.wide = nil, false
	}
	if r.closed {
		return nodeHandle{}, errClosed
	}
	if len(r.handles) == 0 {
		c, err := r.x.link.get(ctx)
		if err != nil {
			return nodeHandle{}, err
		}
		h, err := r.x.openNode(ctx, r.n, c, c.pickSender())
		if isLost(err) {
			c.fail()
		}
		if err != nil {
			return nodeHandle{}, err
		}
		r.handles = []nodeHandle{h}
	}
	r.asked += int64(n)
	c := r.handles[0].c
	if r.asked > stripeBytes && !r.wide && c.complete() {
		r.wide = true
		for _, s := range c.senders() {
			if s != r.handles[0].s {
				r.x.reading.fetches.Go(func() { r.widen(c, s) })
			}
		}
	}
	best := r.handles[0]
	for _, h := range r.handles[1:] {
		if h.s.inflight.Load() < best.s.inflight.Load() {
			best = h
		}
	}
	return best, nil
}

// widen opens the file on one more session; without it, those there are do.
func (r *nodeReader) widen(c *connection, s *session) {
	h, err := r.x.openNode(r.ahead.ctx, r.n, c, s)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.handles) == 0 || r.handles[0].c != c {
		h.close()
		return
	}
	r.handles = append(r.handles, h)
}

// openNode opens the content that n has on the node for reading.
func (x *Exclusive) openNode(ctx context.Context, n *xnode, c *connection, s *session) (nodeHandle, error) {
	h := nodeHandle{c: c, s: s}
	err := x.atPath(ctx, n, func(p string) (err error) {
		s.inflight.Add(1)
		defer s.inflight.Add(-1)
		h.handle, err = answered(ctx, x.link, s, s.SendOpen(p, sftpwire.FlagRead, sftpwire.Attrs{}).Wait)
		if err != nil {
			return &Error{"open", p, err}
		}
		return nil
	})
	return h, err
}
