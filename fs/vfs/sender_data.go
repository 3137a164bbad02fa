package vfs

import (
	"errors"
	"os"
	"syscall"
	"time"

	"bundlefs/fs/extent"
	"bundlefs/internal/sftpwire"
)

const (
	// flyingBytes is how much data may be on its way: what fills a link of
	// 100 MB/s and 200 ms, and no more, since it is memory. On a shorter link it is less: a byte
	// takes the room of several then.
	flyingBytes = 24 << 20

	// stripeBytes is how much data makes it worth to send one file over several
	// sessions: each has a window of its own.
	stripeBytes = 1 << 20
)

// round is what one pass over a file sends.
type round struct {
	extents extent.Set
	mask    attrMask
	attr    Attr
	cut     bool
	cutTo   int64
	seq     uint64 // the last change it holds
}

// takeRound takes what is to be sent of n; mu is held.
func (x *Exclusive) takeRound(n *xnode) round {
	r := round{mask: n.send, attr: n.attr, seq: x.seq}
	n.send, n.pressed = 0, false
	if d := n.data; d != nil {
		r.extents = d.dirty.Clone()
		r.cut, r.cutTo = d.cut, d.cutTo
		for e := range r.extents.All() {
			d.flying.Add(e.Off, e.End)
		}
		d.dirty.Clear()
		d.cut = false
	}
	return r
}

// giveBack takes back what a pass that failed has taken; mu is held.
func (x *Exclusive) giveBack(n *xnode, rounds []round) {
	if n.data != nil {
		x.dirtyBytes -= n.data.dirty.Bytes()
		defer func() { x.dirtyBytes += n.data.dirty.Bytes() }()
	}
	for _, r := range rounds {
		n.send |= r.mask
		x.dirtyBytes -= r.extents.Bytes()
		d := n.data
		if d == nil {
			continue
		}
		for e := range r.extents.All() {
			for l := range d.local.Within(e.Off, e.End) { // what was cut off meanwhile is gone
				d.dirty.Add(l.Off, l.End)
			}
		}
		if r.cut {
			x.cutNode(d, r.cutTo)
		}
	}
	if n.data != nil {
		n.data.flying.Clear()
	}
}

// cutNode notes that the node's file is to be cut; mu is held.
func (x *Exclusive) cutNode(d *content, size int64) {
	if !d.cut || size < d.cutTo {
		d.cut, d.cutTo = true, size
	}
}

// upload is one pass over a file: its handles on the node and what was asked.
type upload struct {
	x        *Exclusive
	c        *connection
	n        *xnode
	path     string
	senders  []*session
	handles  []string
	wide     bool // the file was opened on the other sessions too
	requests []pendingWrite
	next     int // round robin over the handles
	created  bool
	wrote    int64 // end of what was written
	err      error
}

// pendingWrite is a write on its way with the part of the budget it holds.
type pendingWrite struct {
	sftpwire.Request
	room   int64 // in the budget
	sender *session
}

// sendContent sends the content and attributes of a file in one or more rounds
// through handles that stay open, and makes the file first if the action says so.
// A small file takes two round trips: open, then all the rest at once.
func (x *Exclusive) sendContent(c *connection, a *action) error {
	n := a.n
	x.paths.RLock()
	x.mu.Lock()
	if len(x.doubts) > 0 || x.fence != nil { // since it was asked
		err := errLost
		if x.fence != nil {
			err = errFenced
		}
		x.mu.Unlock()
		x.paths.RUnlock()
		return err
	}
	var p string
	var ok bool
	if a.d != nil {
		if p, ok = x.pathOf(a.d); ok {
			if err := x.intend(a); err != nil {
				x.mu.Unlock()
				x.paths.RUnlock()
				return err
			}
		}
	} else {
		p, ok = x.remotePath(n)
	}
	content := n.w // a new file's name is sent with its content
	if content != nil && content != a.w && content.mark != nil {
		content.begin()
	}
	rounds := []round{x.takeRound(n)}
	x.mu.Unlock()
	u := &upload{x: x, c: c, n: n, path: p, created: a.d != nil}
	if ok {
		u.open(&rounds[0])
	} else {
		u.err = errLost // its folder moves: plan again
	}
	x.paths.RUnlock()
	if u.err == nil && a.d != nil {
		x.mu.Lock()
		x.placed(a)
		x.mu.Unlock()
	}
	for u.err == nil {
		if u.err = x.unfenced(); u.err != nil {
			break // it was lost meanwhile: no more goes to what may be another's
		}
		u.send(&rounds[len(rounds)-1])
		if u.err != nil || !x.another(a, content, &rounds) {
			break
		}
	}
	u.finish(rounds)
	if isLost(u.err) {
		c.fail()
	}
	for _, r := range rounds {
		a.bytes += r.extents.Bytes()
	}
	err := x.explain(a, p, u.err)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stats.sent++
	x.stats.bytes += u.wrote
	return x.contentEnded(a, content, rounds, err)
}

// another takes one more round of a file that is written as fast as it is sent.
func (x *Exclusive) another(a *action, content *work, rounds *[]round) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := a.n
	if n.data == nil || n.data.dirty.Bytes() < streamBytes || x.barriers > 0 || len(n.gate.waiters) > 0 || n.dead() || x.draining || x.quiet {
		return false
	}
	if content != nil && content.mark != nil && content.flying != nil {
		x.marks.remove(content.mark) // the older one stands for both
		content.mark = nil
	}
	*rounds = append(*rounds, x.takeRound(n))
	return true
}

// contentEnded takes note of the end of a pass; mu is held. The error it returns
// is that of the action's own work.
func (x *Exclusive) contentEnded(a *action, content *work, rounds []round, err error) error {
	n := a.n
	placed := len(n.places) > 0
	if err != nil {
		x.giveBack(n, rounds)
		if a.d != nil { // which is not new any more when it is tried again
			n.send |= sendMode | sendTimes
		}
		if content == nil || content == a.w {
			return err
		}
		// The name is another's work: it is there, or it is what failed.
		x.failed(content)
		if placed && !x.again(err) && !n.dead() {
			x.refusedBy(content, err)
			return nil
		}
		x.queue(content)
		if placed {
			return nil
		}
		return err
	}
	x.sends++
	n.sentAs = x.sends
	x.noteSent(n, rounds[len(rounds)-1].seq)
	if d := n.data; d != nil {
		for _, r := range rounds {
			x.dirtyBytes -= r.extents.Bytes()
		}
		d.flying.Clear()
		if d.dirty.Empty() && !d.cut {
			if size := int64(rounds[len(rounds)-1].attr.Size); size != d.base { // it may have grown here since
				x.forgetFetched(n)
				d.base = size
			}
			x.cached.add(x, n)
		}
	}
	x.changed.Broadcast()
	if content != nil && content != a.w {
		x.landed(content)
		if content.mark != nil {
			x.queue(content)
		} else {
			x.settle(content)
		}
	}
	return nil
}

// open opens the file on one session; others follow if there is much to send.
func (u *upload) open(r *round) {
	flags := uint32(sftpwire.FlagWrite)
	var attrs sftpwire.Attrs
	if u.created {
		// Whatever a try that was cut off has left there is replaced.
		flags |= sftpwire.FlagCreate | sftpwire.FlagTruncate
		mode := r.attr.Mode&0o777 | 0o600
		attrs.Permissions = &mode
	} else if r.cut && r.cutTo == 0 {
		flags |= sftpwire.FlagTruncate
		r.cut = false
	}
	s := u.c.pickSender()
	if r.extents.Bytes() <= wholeMost {
		s = u.c.pickSmall()
	}
	u.senders = []*session{s}
	s.inflight.Add(1)
	started := time.Now()
	handle, err := s.Open(u.x.ctx, u.path, flags, attrs)
	if Errno(err) == syscall.EACCES && !u.created && (r.attr.Mode&0o200 == 0 || r.mask&sendMode != 0) {
		// It was opened here before its mode was taken away, or after it was given.
		mode := r.attr.Mode&0o7777 | 0o600
		if err = s.Setstat(u.x.ctx, u.path, sftpwire.Attrs{Permissions: &mode}, false); err == nil {
			r.mask |= sendMode
			handle, err = s.Open(u.x.ctx, u.path, flags, attrs)
		}
	}
	s.inflight.Add(-1)
	if err != nil {
		u.err = err
		if flags&sftpwire.FlagTruncate != 0 && !u.created {
			r.cut = true
		}
		return
	}
	u.x.link.metrics.rtt.took(time.Since(started))
	u.x.mu.Lock()
	u.x.window.answered(time.Now(), time.Since(started))
	u.x.mu.Unlock()
	u.handles = []string{handle}
}

// widen opens the file on the other sessions too.
func (u *upload) widen() {
	type opened struct {
		s      *session
		handle string
		err    error
	}
	var others []*session
	for _, s := range u.c.senders() {
		if s != u.senders[0] {
			others = append(others, s)
		}
	}
	results := make(chan opened, len(others))
	for _, s := range others {
		go func() {
			h, err := s.Open(u.x.ctx, u.path, sftpwire.FlagWrite, sftpwire.Attrs{})
			results <- opened{s, h, err}
		}()
	}
	for range others {
		if o := <-results; o.err == nil { // without it, the sessions there are do
			u.senders = append(u.senders, o.s)
			u.handles = append(u.handles, o.handle)
		}
	}
}

// spread has the rest of a round, of so many bytes, sent over several sessions, as soon as they
// are there and if it is worth it.
func (u *upload) spread(left int64) {
	if u.wide || left <= stripeBytes || !u.c.complete() {
		return
	}
	u.wide = true
	u.x.paths.RLock()
	defer u.x.paths.RUnlock()
	u.x.mu.Lock()
	p, ok := u.x.remotePath(u.n)
	u.x.mu.Unlock()
	if u.path = p; ok {
		u.widen()
	}
}

// send sends the data of one round.
func (u *upload) send(r *round) {
	left := r.extents.Bytes()
	u.spread(left)
	if r.cut {
		size := uint64(r.cutTo)
		u.drain(0)
		if u.err == nil {
			u.err = u.senders[0].Fsetstat(u.handles[0], sftpwire.Attrs{Size: &size}).Wait(u.x.ctx)
		}
	}
	for e := range r.extents.All() {
		for off := e.Off; off < e.End && u.err == nil; {
			u.spread(left)
			n := min(int64(u.c.packet()), e.End-off)
			u.write(off, n)
			off, left = off+n, left-n
		}
	}
}

// write sends one piece of data.
func (u *upload) write(off, n int64) {
	room := min(n*flyingBytes/u.x.link.metrics.rtt.flight(flyingBytes), flyingBytes)
	for !u.x.budget.TryAcquire(room) {
		if len(u.requests) == 0 { // others hold it all
			if err := u.x.budget.Acquire(u.x.ctx, room); err != nil {
				u.err = err
				return
			}
			break
		}
		u.drain(len(u.requests) - 1)
	}
	buf := u.x.buffer(n)
	err := u.x.readLocal(u.n, buf, off)
	if err != nil {
		u.x.budget.Release(room)
		u.err = err
		return
	}
	i := u.next % len(u.handles)
	u.next++
	s := u.senders[i]
	s.inflight.Add(1)
	req := s.Write(u.handles[i], uint64(off), buf)
	u.x.buffers.Put(&buf)
	u.requests = append(u.requests, pendingWrite{req, room, s})
	u.wrote = max(u.wrote, off+n)
}

// drain waits until at most left writes are on their way.
func (u *upload) drain(left int) {
	for len(u.requests) > left {
		r := u.requests[0]
		u.requests = u.requests[1:]
		if err := r.Wait(u.x.ctx); err != nil && u.err == nil {
			u.err = err
		}
		r.sender.inflight.Add(-1)
		u.x.budget.Release(r.room)
	}
}

// finish sets the attributes and closes the handles, whatever has happened.
func (u *upload) finish(rounds []round) {
	if len(u.handles) == 0 {
		return
	}
	s, h := u.senders[0], u.handles[0]
	_, inOrder := s.Extension(sftpwire.ExtFsync) // OpenSSH's server; others may do requests side by side
	if len(u.handles) > 1 || u.err != nil || !inOrder {
		u.drain(0) // what is written later would change the time again
	}
	var tail []sftpwire.Request
	if u.err == nil {
		if a := u.attrs(rounds); a != (sftpwire.Attrs{}) && inOrder {
			tail = append(tail, s.Fsetstat(h, a))
		} else if a != (sftpwire.Attrs{}) {
			u.err = u.setAttrs(a)
		}
		if _, ok := s.Extension(sftpwire.ExtFsync); ok && wants(rounds, sendSync) {
			tail = append(tail, s.Fsync(h))
		}
	}
	for i, h := range u.handles {
		tail = append(tail, u.senders[i].CloseHandle(h))
	}
	u.drain(0)
	for _, r := range tail {
		if err := r.Wait(u.x.ctx); err != nil && u.err == nil {
			u.err = err
		}
	}
}

// setAttrs sets attributes on a server that does so by the path which the handle was
// opened with, where the file may not be any more.
func (u *upload) setAttrs(a sftpwire.Attrs) error {
	s := u.senders[0]
	err := s.Fsetstat(u.handles[0], a).Wait(u.x.ctx)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	u.x.paths.RLock()
	defer u.x.paths.RUnlock()
	u.x.mu.Lock()
	p, ok := u.x.remotePath(u.n)
	u.x.mu.Unlock()
	if !ok {
		return nil // removed meanwhile
	}
	return s.Setstat(u.x.ctx, p, a, false)
}

func wants(rounds []round, mask attrMask) bool {
	for _, r := range rounds {
		if r.mask&mask != 0 {
			return true
		}
	}
	return false
}

// attrs are what is set at the end, in one request: the times always, when data
// was sent, so that they are the same on the node as here.
func (u *upload) attrs(rounds []round) sftpwire.Attrs {
	last := rounds[len(rounds)-1].attr
	var mask attrMask
	cut := false
	for _, r := range rounds {
		mask |= r.mask
		cut = cut || r.cut
	}
	if u.created {
		mask |= sendMode | sendTimes
	}
	if u.wrote > 0 || cut {
		mask |= sendTimes
	}
	mask &^= sendSize
	if cut || wants(rounds, sendSize) || u.created && int64(last.Size) != u.wrote {
		mask |= sendSize
	}
	return u.x.wireAttrs(mask&^sendSync, last)
}

// buffer returns a buffer of n bytes, to be Put back into buffers.
func (x *Exclusive) buffer(n int64) []byte {
	if b, ok := x.buffers.Get().(*[]byte); ok && int64(cap(*b)) >= n {
		return (*b)[:n]
	}
	return make([]byte, n, max(n, 32<<10))
}
