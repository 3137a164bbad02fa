package vfs

import "slices"

// vanished takes away what the node does not have any more, with all below. What is
// there and not yet sent stays, and the folders in which it is are made again. The
// journal must know, if it tells of it: else the next mount took a new file of that
// name for one that is to take the old one's place. mu is held, and the caller calls
// payVanished in the end.
func (x *Exclusive) vanished(d *dentry) {
	n := d.local
	if n.isDir() && x.vanishedBelow(n) {
		x.gone(d)
		n.send |= sendMode | sendTimes
		x.changedNode(n, x.nextSeq())
		x.changedName(d, x.nextSeq())
		return
	}
	x.unnamed(d)
	x.gone(d)
	x.tidy(d)
}

// vanishedBelow does so for what was in a folder; kept tells that something stays. mu is held.
func (x *Exclusive) vanishedBelow(dir *xnode) (kept bool) {
	for _, c := range dir.children {
		switch n := c.remote; {
		case n == nil || c.gate.busy:
		case n == c.local:
			x.vanished(c)
		default: // it was removed or moved here
			x.gone(c)
			x.bereft(n)
			x.changedName(c, x.nextSeq())
		}
		kept = kept || c.local != nil
	}
	return kept
}

// bereft takes the names away of who was to move from where it is not any more, and
// is nowhere else; mu is held.
func (x *Exclusive) bereft(n *xnode) {
	if n.dead() || len(n.places) > 0 || n.isDir() && x.vanishedBelow(n) {
		return
	}
	for _, l := range slices.Clone(n.links) {
		x.log.Warn("removed on the node before it was renamed there", "path", x.localPath(l))
		x.unnamed(l)
		x.changedName(l, x.nextSeq())
	}
}

// unnamed takes the name d here from who has it; mu is held.
func (x *Exclusive) unnamed(d *dentry) {
	n := d.local
	if n.generation == x.generation {
		x.owe(&record{Kind: recUnlink, Seq: x.nextSeq(), Parent: d.parent.ino, Name: d.name})
	}
	x.setLocal(d, nil)
	if n.dead() && n.w != nil {
		x.retry(n.w)
		x.queue(n.w) // which finds that nothing is to be sent
	}
}

// gone notes that nobody has the name d on the node; mu is held.
func (x *Exclusive) gone(d *dentry) {
	if d.remote.generation == x.generation {
		x.owe(&record{Kind: recPlaced, Parent: d.parent.ino, Name: d.name})
	}
	x.setRemote(d, nil)
}

// owe has a record written by the next payOwed; mu is held.
func (x *Exclusive) owe(r *record) { x.owed = append(x.owed, r.encode()) }

// payVanished writes what vanished has found; mu is held.
func (x *Exclusive) payVanished() {
	if err := x.payOwed(); err != nil {
		x.log.Warn("cannot write to the journal", "error", err)
	}
}
