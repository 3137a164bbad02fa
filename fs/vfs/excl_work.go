package vfs

import (
	"syscall"
	"time"
)

// gate is passed by one action at a time; who finds it busy waits.
type gate struct {
	busy    bool
	readers int // who looks at the node under this name: it must not become another's
	waiters []*work
}

// work is what is to be sent of a name (d) or of an inode's content and
// attributes (n).
type work struct {
	d *dentry
	n *xnode

	owner   *xnode // whose pending works this is counted among
	mark    *mark  // of the oldest change that is not on its way; nil: none
	last    uint64 // the newest change
	flying  *mark  // of those on their way
	queued  bool   // in Exclusive.ready
	waits   *work  // what it waits for, if it does not wait to be looked at
	refusal *refusal
	pause   time.Duration // before the next try by itself
	denied  int           // how often EACCES was the answer in a row
}

// refusal is why a work cannot be done: the node said no, or it waits for a work
// that is refused.
type refusal struct {
	err   error
	errno syscall.Errno
	on    *work     // what it waits for, if that was refused
	seq   uint64    // of the first change that is refused
	again time.Time // when it is tried again by itself; zero: only when told to
}

// changed is told that there is something new to be sent, which may be accepted. It is tried
// soon and not at once: who goes on writing a file would hide from barriers that it is refused.
func (r *refusal) changed() {
	if r.again.IsZero() {
		r.again = time.Now()
	}
}

// mark is the place of a change in the order of all: barriers wait for the first.
type mark struct {
	seq        uint64
	prev, next *mark
}

// markList holds the marks of all that is not on the node, oldest first.
type markList struct {
	first, last *mark
	n           int
}

// add puts a mark in its place, which is mostly the last.
func (l *markList) add(seq uint64) *mark {
	before := l.last
	for before != nil && before.seq > seq {
		before = before.prev
	}
	m := &mark{seq: seq, prev: before}
	if before == nil {
		m.next, l.first = l.first, m
	} else {
		m.next, before.next = before.next, m
	}
	if m.next == nil {
		l.last = m
	} else {
		m.next.prev = m
	}
	l.n++
	return m
}

func (l *markList) remove(m *mark) {
	if m.prev == nil {
		l.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		l.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	l.n--
}

// nextSeq numbers a change; mu is held.
func (x *Exclusive) nextSeq() uint64 {
	x.seq++
	return x.seq
}

// changedName notes that a name's owner here has changed, as change seq, and
// queues what is to be sent, if the node has another one; mu is held.
func (x *Exclusive) changedName(d *dentry, seq uint64) {
	if d.local == d.remote && d.doubts == 0 && !d.gate.busy && (d.w == nil || d.w.flying == nil) {
		x.settle(d.w) // made and removed again, or given back
		x.tidy(d)
		return
	}
	if d.w == nil {
		d.w = &work{d: d}
		x.pendingIn(d.parent, 1)
	}
	x.dirty(d.w, seq)
	x.queue(d.w)
}

// changedNode notes that content or attributes have changed, as change seq; mu is held.
func (x *Exclusive) changedNode(n *xnode, seq uint64) {
	if n.dead() && len(n.places) == 0 {
		return // nobody will ever send it
	}
	if n.w == nil {
		n.w = &work{n: n}
	}
	x.dirty(n.w, seq)
}

// dirty gives a work a mark if it has none and is not refused.
func (x *Exclusive) dirty(w *work, seq uint64) {
	w.last = max(w.last, seq)
	if w.refusal != nil {
		w.refusal.changed()
		return
	}
	if w.mark == nil {
		w.mark = x.marks.add(seq)
	}
	x.count(w)
}

// count counts the inodes of which something is to be sent: a new file is one, though
// its name and its content are two works. It is called when the marks of a work have
// become none, or some. mu is held.
func (x *Exclusive) count(w *work) {
	pending := w.mark != nil || w.flying != nil
	switch {
	case pending == (w.owner != nil):
	case pending:
		switch w.owner = w.n; {
		case w.n != nil:
		case w.d.local != nil:
			w.owner = w.d.local
		case w.d.remote != nil:
			w.owner = w.d.remote
		default: // it is nobody's by now
			w.owner = w.d.parent
		}
		if w.owner.toSend++; w.owner.toSend == 1 {
			x.pending++
		}
	default:
		if w.owner.toSend--; w.owner.toSend == 0 {
			x.pending--
		}
		w.owner = nil
	}
}

// queue puts a work among those that may be ready; mu is held.
func (x *Exclusive) queue(w *work) {
	delete(x.delayed, w)
	if w == nil || w.queued || w.refusal != nil {
		return
	}
	w.queued, w.waits = true, nil
	x.ready = append(x.ready, w)
	x.changed.Broadcast()
}

// settle ends a work: nothing is left to be sent; mu is held.
func (x *Exclusive) settle(w *work) {
	if w == nil {
		return
	}
	x.accept(w)
	if w.mark != nil {
		x.marks.remove(w.mark)
		w.mark = nil
	}
	x.count(w)
	delete(x.delayed, w)
	delete(x.putOff, w)
	w.waits = nil
	x.release(w)
	x.changed.Broadcast()
}

// release takes a work without marks off its name or inode; mu is held.
func (x *Exclusive) release(w *work) {
	if w.mark != nil || w.flying != nil {
		return
	}
	switch {
	case w.d != nil && w.d.w == w:
		w.d.w = nil
		x.unblock(&w.d.gate)
		x.pendingIn(w.d.parent, -1)
		x.tidy(w.d)
	case w.n != nil && w.n.w == w:
		w.n.w = nil
		x.unblock(&w.n.gate)
		x.reap(w.n)
	}
}

// unblock queues all that wait at a gate; mu is held.
func (x *Exclusive) unblock(g *gate) {
	waiters := g.waiters
	g.waiters = nil
	for _, w := range waiters {
		x.queue(w)
	}
}

// wait makes w wait at a gate; mu is held.
func (g *gate) wait(w *work) { g.waiters = append(g.waiters, w) }

// waitFor makes w wait until on is done, or refuses it with the same cause; mu is held.
func (x *Exclusive) waitFor(w, on *work) {
	if on == nil { // done in between
		x.queue(w)
		return
	}
	if on.refusal != nil {
		x.refuse(w, &refusal{err: on.refusal.err, errno: on.refusal.errno, on: on})
		return
	}
	if on.d != nil {
		on.d.gate.wait(w)
	} else {
		on.n.gate.wait(w)
	}
	w.waits = on
	if on.mark != nil && (on.waits == nil || inRing(w, on)) {
		x.queue(on)
	}
}

// inRing reports whether on waits for w, be it for others that do.
func inRing(w, on *work) bool {
	const most = 10000 // a ring that w is no part of is none of its business
	for range most {
		if on == nil || on == w {
			return on == w
		}
		on = on.waits
	}
	return false
}

// refuse takes a work out of what barriers wait for, with all that waits for it,
// and keeps it; mu is held.
func (x *Exclusive) refuse(w *work, r *refusal) {
	w.refusal = r
	x.refused[w] = struct{}{}
	r.seq = w.last
	if w.mark != nil {
		r.seq = w.mark.seq
		x.marks.remove(w.mark)
		w.mark = nil
	}
	x.count(w)
	delete(x.delayed, w)
	delete(x.putOff, w)
	if w.d != nil {
		x.pendingIn(w.d.parent, -1)
	}
	g := w.gate()
	waiters := g.waiters
	g.waiters = nil
	if w.d != nil && w.d.local != nil && w.d.local.w != nil {
		waiters = append(waiters, w.d.local.w) // content and attributes need a name
	}
	for _, other := range waiters {
		if other.refusal == nil && other.flying == nil {
			x.queue(other) // it will find out what it can do
		}
	}
	x.changed.Broadcast()
}

func (w *work) gate() *gate {
	if w.d != nil {
		return &w.d.gate
	}
	return &w.n.gate
}

// accept ends a refusal: the work is tried again, or given up, and what waits for
// it finds out what it can do; mu is held.
func (x *Exclusive) accept(w *work) {
	if w.refusal == nil {
		return
	}
	w.refusal = nil
	delete(x.refused, w)
	if w.d != nil {
		x.pendingIn(w.d.parent, 1)
	}
	for other := range x.refused {
		if other.refusal.on == w {
			x.retry(other)
		}
	}
}

// pendingIn counts the children of a folder that are still to be sent; its own
// times are set after the last. mu is held.
func (x *Exclusive) pendingIn(dir *xnode, delta int) {
	dir.pending += delta
	if dir.pending == 0 && dir.w != nil {
		x.queue(dir.w)
	}
}

// retry tries a refused work, and all that wait for it, once more. It keeps its place
// among all changes, for the barriers that wait. mu is held.
func (x *Exclusive) retry(w *work) {
	if w.refusal == nil {
		return
	}
	seq := w.refusal.seq
	x.accept(w)
	if w.mark == nil {
		w.mark = x.marks.add(seq)
	}
	x.count(w)
	x.queue(w)
}

// begin takes the marks of a work as on their way; mu is held.
func (w *work) begin() { w.flying, w.mark = w.mark, nil }

// landed ends the marks on their way; mu is held.
func (x *Exclusive) landed(w *work) {
	if w.flying != nil {
		x.marks.remove(w.flying)
		w.flying = nil
	}
	w.denied = 0
	x.count(w)
	x.changed.Broadcast()
}

// failed puts the marks on their way back; mu is held.
func (x *Exclusive) failed(w *work) {
	if w.flying == nil {
		return
	}
	if w.mark != nil {
		x.marks.remove(w.mark)
	}
	w.mark, w.flying = w.flying, nil
}
