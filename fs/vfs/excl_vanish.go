package vfs

// vanished takes away what the node does not have any more, with all below. What is
// there and not yet sent stays, and the folders in which it is are made again. The
// journal must know, if it tells of it: else the next mount took a new file of that
// name for one that is to take the old one's place. mu is held, and the caller calls
// payVanished in the end.
func (x *Exclusive) vanished(d *dentry) {
	n := d.local
	kept := false
	if n.isDir() {
		for _, c := range n.children {
			switch {
			case c.w == nil && !c.gate.busy && c.local != nil && c.local == c.remote:
				x.vanished(c)
			case c.w != nil && c.local == nil && !c.gate.busy: // removed here, too
				x.gone(c)
				x.settle(c.w)
			}
			kept = kept || c.local != nil
		}
	}
	if !kept {
		if x.told(d) {
			x.owe(&record{Kind: recUnlink, Seq: x.nextSeq(), Parent: d.parent.ino, Name: d.name})
		}
		x.setLocal(d, nil)
	}
	x.gone(d)
	if kept {
		n.send |= sendMode | sendTimes
		x.changedNode(n, x.nextSeq())
		x.changedName(d, x.nextSeq())
	}
	x.tidy(d)
}

// gone notes that nobody has the name d on the node; mu is held.
func (x *Exclusive) gone(d *dentry) {
	if x.told(d) {
		x.owe(&record{Kind: recPlaced, Parent: d.parent.ino, Name: d.name})
	}
	x.setRemote(d, nil)
}

// told reports whether the journal tells of who has the name d on the node; mu is held.
func (x *Exclusive) told(d *dentry) bool {
	return d.remote != nil && d.remote.generation == x.generation
}

// owe has a record written by the next payOwed; mu is held.
func (x *Exclusive) owe(r *record) { x.owed = append(x.owed, r.encode()) }

// payVanished writes what vanished has found; mu is held.
func (x *Exclusive) payVanished() {
	if err := x.payOwed(); err != nil {
		x.log.Warn("cannot write to the journal", "error", err)
	}
}
