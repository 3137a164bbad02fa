package vfs

import (
	"fmt"
)

// actionKind is what one action does on the node. The journal holds the numbers:
// never change one.
type actionKind int

const (
	actMkdir   actionKind = iota // the folder n gets its name d
	actSymlink                   // the link n gets its name d
	actLink                      // n, which has the name from, gets the name d too
	actRename                    // n moves from the name from to d, over who has that
	actRemove                    // the file with the name d goes
	actRmdir                     // the empty folder with the name d goes
	actContent                   // content and attributes of n; n is made with the name d if that is set
	actAttr                      // attributes of n, by its path
)

// action is one thing that is done on the node; the names and inodes that it
// works on are busy meanwhile.
type action struct {
	kind actionKind
	w    *work
	d    *dentry
	from *dentry
	n    *xnode
	gone *xnode // who had the name d before
	typ  uint32 // of n, as in Attr.Mode

	bytes  int64  // of content, that were to be written
	seq    uint64 // of an action without a work: as since
	target string // of n, if it is a symbolic link
	held   []*gate

	unlock   bool // actAttr that lets the owner work in the folder n, whose new mode comes at the end
	unlocked bool // that was done before
	intended bool // the journal tells that the node is asked for it
}

// plan says what can be done now for a work, nil if nothing can: then the work is
// settled, or waits for another, which queues it when done. mu is held.
func (x *Exclusive) plan(w *work) *action {
	if w.refusal != nil || w.mark == nil && w.flying == nil {
		return nil
	}
	if w.flying != nil {
		return nil // its action queues it again
	}
	w.waits = nil
	var a *action
	if w.d != nil {
		a = x.planName(w, w.d)
	} else {
		a = x.planNode(w, w.n)
	}
	if a == nil {
		return nil
	}
	for _, g := range a.gates() {
		if g.busy || g.readers > 0 {
			g.wait(w)
			return nil
		}
	}
	for _, g := range a.gates() {
		g.busy = true
		a.held = append(a.held, g)
	}
	a.unlocked = w.d != nil && w.d.parent.unlocked
	if a.n != nil {
		a.typ = a.n.attr.Mode & TypeMask
	}
	w.begin()
	delete(x.putOff, w)
	return a
}

// since is the oldest change that the action is for.
func (a *action) since() uint64 {
	if a.w != nil && a.w.flying != nil {
		return a.w.flying.seq
	}
	return a.seq
}

// gates are what the action must have for itself.
func (a *action) gates() []*gate {
	var l []*gate
	if a.d != nil {
		l = append(l, &a.d.gate)
	}
	if a.from != nil {
		l = append(l, &a.from.gate)
	}
	if a.n != nil {
		l = append(l, &a.n.gate)
	}
	if a.gone != nil && a.gone != a.n {
		l = append(l, &a.gone.gate)
	}
	return l
}

// planName brings the name d on the node to what it is here, one step at a time.
func (x *Exclusive) planName(w *work, d *dentry) *action {
	if d.gate.busy { // what is under way may change it
		d.gate.wait(w)
		return nil
	}
	if d.local == d.remote {
		x.settle(w)
		return nil
	}
	if _, ok := x.remotePath(d.parent); !ok {
		if d.parent.dead() {
			x.settle(w) // the folder was removed before it was ever sent
			return nil
		}
		d.parent.gate.wait(w) // it may get another name first
		x.waitFor(w, d.parent.links[0].w)
		return nil
	}
	if d.parent.locked {
		return &action{kind: actAttr, w: w, n: d.parent, unlock: true}
	}
	if n := d.local; n != nil && n.isDir() {
		if a, first := x.planBelow(w, d, n); first {
			return a
		}
	}
	if had := d.remote; had != nil {
		if a, free := x.planVacate(w, d, had); !free {
			return a
		}
	}
	n := d.local
	if n == nil {
		x.queue(w) // the name is free by now: look again
		return nil
	}
	switch {
	case n.isDir():
		if len(n.places) == 0 {
			return &action{kind: actMkdir, w: w, d: d, n: n}
		}
		return x.planMoveFolder(w, d, n)
	case n.isSymlink() && len(n.places) == 0:
		if d.remote != nil {
			return &action{kind: actSymlink, w: w, d: x.aside(d.parent, n), n: n}
		}
		return &action{kind: actSymlink, w: w, d: d, n: n}
	case len(n.places) == 0:
		return x.planCreate(w, d, n)
	}
	return x.planMoveFile(w, d, n)
}

// planVacate makes room: had has the name d on the node and not here. free says
// that nothing needs to be done first, or that d's new owner goes over it in one
// moment.
func (x *Exclusive) planVacate(w *work, d *dentry, had *xnode) (a *action, free bool) {
	if to := had.home(); !had.dead() && len(had.places) == 1 && to != nil {
		x.ensureWork(to)
		if inRing(w, to.w) {
			// Names change places: one steps aside, to where nothing is moved or removed.
			return &action{kind: actRename, w: w, d: x.parked(had), from: d, n: had}, false
		}
		x.waitFor(w, to.w) // its new name
		return nil, false
	}
	switch {
	case had.isDir():
		for _, c := range had.children {
			switch {
			case c.gate.busy: // on its way in or out
				c.gate.wait(w)
			case c.remote != nil && c.local != c.remote:
				x.ensureWork(c)
				x.waitFor(w, c.w)
			default: // what somebody has put there on the node keeps the folder
				continue
			}
			return nil, false
		}
		return &action{kind: actRmdir, w: w, d: d, gone: had}, false
	case had.dead() && had.opens > 0 && had.needsNode():
		// Somebody reads it still: it gets a name that nobody sees, in a folder that stays.
		return &action{kind: actRename, w: w, d: x.aside(x.root, had), from: d, n: had}, false
	case d.local == nil || d.local.isDir():
		return &action{kind: actRemove, w: w, d: d, gone: had}, false
	case len(d.local.places) == 0 && d.local.isFile() && d.local.writers > 0 && !d.local.moved:
		// The new file is still being written, for who knows how long: it is seen
		// growing under its name, as on any file system.
		return &action{kind: actRemove, w: w, d: d, gone: had}, false
	case !d.local.isDir() && len(d.local.places) > 0 && d.local.elsewhere() == nil:
		return &action{kind: actRemove, w: w, d: d, gone: had}, false // a hard link cannot go over a file
	}
	return nil, true
}

// home is a name that n has here and not yet on the node, nil if there is none.
func (n *xnode) home() *dentry {
	for _, d := range n.links {
		if d.remote != n {
			return d
		}
	}
	return nil
}

// elsewhere is a name that n has on the node and not here, nil if there is none.
func (n *xnode) elsewhere() *dentry {
	for _, d := range n.places {
		if d.local != n {
			return d
		}
	}
	return nil
}

// needsNode reports whether part of the content is only on the node.
func (n *xnode) needsNode() bool {
	return n.data == nil && n.attr.Size > 0 || n.data != nil && !n.data.local.Covers(0, n.data.base)
}

// aside is a free hidden name in a folder for n.
func (x *Exclusive) aside(dir *xnode, n *xnode) *dentry {
	return x.at(dir, fmt.Sprintf("%s%d-%d", asidePrefix, n.ino, x.nextSeq()))
}

// parked is a free hidden name for n, which the node had before.
func (x *Exclusive) parked(n *xnode) *dentry {
	return x.at(x.root, fmt.Sprintf("%s%d-%d", parkedPrefix, n.ino, x.nextSeq()))
}

// planMoveFolder moves a folder, once it is not to be moved into itself.
func (x *Exclusive) planMoveFolder(w *work, d *dentry, n *xnode) *action {
	from := n.places[0]
	for p := d.parent; p.ino != RootIno; p = p.places[0].parent {
		if p == n {
			break
		}
		// Whatever lies inside n on the node, and not here, moves out first.
		if p.places[0].local != p && x.isInside(p, n) {
			if to := p.home(); to != nil && to.w != nil && to.w != w {
				x.waitFor(w, to.w)
				return nil
			}
		}
	}
	return &action{kind: actRename, w: w, d: d, from: from, n: n, gone: d.remote}
}

// isInside reports whether p is inside n on the node.
func (x *Exclusive) isInside(p, n *xnode) bool {
	for p.ino != RootIno && len(p.places) > 0 {
		if p = p.places[0].parent; p == n {
			return true
		}
	}
	return false
}

// planCreate makes a new file with its content: under its name, or under a hidden
// one if that name may appear only with the whole content.
func (x *Exclusive) planCreate(w *work, d *dentry, n *xnode) *action {
	if x.early(n) {
		x.delayed[w] = struct{}{}
		return nil
	}
	if d.remote != nil || n.moved {
		d = x.aside(d.parent, n)
	}
	return &action{kind: actContent, w: w, d: d, n: n}
}

// early reports whether a file that is being written is better sent later, with
// what will have been written by then.
func (x *Exclusive) early(n *xnode) bool {
	return n.writers > 0 && x.barriers == 0 && !n.pressed && (n.data == nil || n.data.dirty.Bytes() < streamBytes) &&
		x.dirtyBytes < x.o.SpoolMax/2
}

// streamBytes is how much of a file that is still written is worth sending.
const streamBytes = 1 << 20

// planMoveFile gives a file or link that is on the node its name d.
func (x *Exclusive) planMoveFile(w *work, d *dentry, n *xnode) *action {
	// What was written before the renaming is on the node before the name is.
	if c := n.w; c != nil && c.refusal != nil {
		x.refuse(w, &refusal{err: c.refusal.err, errno: c.refusal.errno, on: c})
		return nil
	} else if c != nil && c.before(w.last) > 0 {
		n.pressed = true
		x.waitFor(w, c)
		return nil
	}
	from := n.elsewhere()
	if from == nil {
		return &action{kind: actLink, w: w, d: d, from: n.places[0], n: n}
	}
	return &action{kind: actRename, w: w, d: d, from: from, n: n, gone: d.remote}
}

// planNode sends an inode's content and attributes.
func (x *Exclusive) planNode(w *work, n *xnode) *action {
	switch {
	case n.dead():
		// Nobody can reach it under a name: what is open goes on here alone.
		n.send &= sendMode // see ended
		x.nothingDirty(n)
		x.settle(w)
		return nil
	case n.ino != RootIno && len(n.places) == 0:
		// It is made with its content; the name's work does that.
		if d := n.links[0]; d.w != nil && d.w.refusal != nil {
			x.refuse(w, &refusal{err: d.w.refusal.err, errno: d.w.refusal.errno, on: d.w})
		} else {
			n.gate.wait(w)
			w.waits = d.w
			x.queue(d.w)
		}
		return nil
	case n.isDir() && n.pending > 0:
		n.gate.wait(w) // the times are set when nothing changes them any more
		return nil
	case n.isFile() && (n.data != nil && (!n.data.dirty.Empty() || n.data.cut) || n.send&(sendSize|sendSync) != 0):
		if x.early(n) && n.send&sendSync == 0 {
			x.delayed[w] = struct{}{}
			return nil
		}
		return &action{kind: actContent, w: w, n: n}
	case n.send != 0:
		if x.putOffAttr(w) {
			return nil
		}
		return &action{kind: actAttr, w: w, n: n}
	}
	x.settle(w)
	return nil
}

// ensureWork makes the work that a name's difference asks for; mu is held.
func (x *Exclusive) ensureWork(d *dentry) {
	if d.w == nil && d.local != d.remote {
		x.changedName(d, x.nextSeq())
	}
}

// ensureWorkOf does so for what has come of the change seq: barriers that wait for that
// wait for this. mu is held.
func (x *Exclusive) ensureWorkOf(d *dentry, seq uint64) {
	if d.w == nil && d.local != d.remote {
		x.changedName(d, seq)
	}
}
