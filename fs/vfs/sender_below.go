package vfs

// A folder that was renamed gets its new name on the node when all that was in it, and
// not yet sent, has arrived: who looks for the new name there finds the folder whole.

// planBelow says what is to be done before the folder n gets the name d; done is
// false if that is nothing. mu is held.
func (x *Exclusive) planBelow(w *work, d *dentry, n *xnode) (a *action, done bool) {
	if len(n.places) == 0 {
		if !n.moved || len(n.children) == 0 {
			return nil, false
		}
		return &action{kind: actMkdir, w: w, d: x.aside(d.parent, n), n: n}, true
	}
	c := x.pendingBelow(w, n)
	switch {
	case c == nil:
		return nil, false
	case c.refusal != nil:
		x.refuse(w, &refusal{err: c.refusal.err, errno: c.refusal.errno, on: c})
	default:
		x.waitFor(w, c)
	}
	return nil, true
}

// pendingBelow is a work inside the folder n that is older than the newest change of
// w: a refused one, else the newest, after which most of the others will be
// done as well; nil if there is none. What waits for w itself is not waited for.
func (x *Exclusive) pendingBelow(w *work, n *xnode) *work {
	var newest *work
	var seq uint64
	folders := []*xnode{n}
	for len(folders) > 0 {
		dir := folders[len(folders)-1]
		folders = folders[:len(folders)-1]
		for _, d := range dir.children {
			works := [2]*work{d.w}
			if c := d.local; c != nil && c.isDir() {
				folders = append(folders, c)
			} else if c != nil {
				works[1] = c.w
			}
			for _, c := range works {
				if c == nil || c == w {
					continue
				}
				if c.refusal != nil && c.last <= w.last {
					return c
				}
				if at := c.before(w.last); at > 0 && !inRing(w, c) {
					if f := d.local; f != nil && !f.isDir() {
						f.pressed = true
						_, delayed := x.delayed[c]
						if _, putOff := x.putOff[c]; delayed || putOff {
							x.queue(c)
						}
					}
					if at > seq {
						newest, seq = c, at
					}
				}
			}
		}
	}
	return newest
}

// before is the newest change of a work that is not on the node and not later than
// last; 0 if there is none.
func (w *work) before(last uint64) uint64 {
	switch {
	case w.mark != nil && w.mark.seq <= last:
		return w.mark.seq
	case w.flying != nil && w.flying.seq <= last:
		return w.flying.seq
	}
	return 0
}
