package vfs

import "iter"

// Variables, so that tests meet a journal that has become long.
var (
	// journalSize is how long the journal may become before it is begun anew when
	// nothing is on its way.
	journalSize int64 = 1 << 20
	// journalMost is how long it may become before that is seen to.
	journalMost int64 = 32 << 20
)

// compact begins the journal anew, with what is still to be told, if it has become
// long; mu is held. Nothing may be on its way, for that is in no tree: when there
// always is, nothing more is started for a moment.
func (x *Exclusive) compact() {
	size := x.spool.Size()
	if !x.full && size < max(x.compactAt, journalSize) {
		return
	}
	if x.running > 0 || len(x.doubts) > 0 {
		x.quiet = size >= journalMost
		return
	}
	if x.marks.n > 0 && size < journalMost {
		return
	}
	x.quiet, x.full = false, false
	told := x.toTell()
	x.keep = 0
	var err error
	if len(told) == 0 && x.root.w == nil {
		err = x.spool.Reset()
	} else {
		err = x.spool.Rewrite(x.snapshot(told))
	}
	if err == nil {
		x.owed, x.stuck = nil, false
		x.removeLeft()
	} else {
		// The journal may be the old or the new one. In either, those in told are
		// told of, and all others may be told of once more.
		x.log.Warn("cannot begin the journal anew", "error", err)
	}
	x.generation++
	for n := range told {
		n.generation = x.generation
	}
	x.compactAt = 2 * x.spool.Size()
	x.changed.Broadcast()
}

// toTell are the inodes of which a new journal must tell: those that are not on
// the node as they are here, and those with several names, which SFTP cannot
// tell apart; and the folders above. mu is held.
func (x *Exclusive) toTell() map[*xnode]bool {
	told := map[*xnode]bool{}
	var add func(n *xnode)
	add = func(n *xnode) {
		if n == nil || n.ino == RootIno || told[n] {
			return
		}
		told[n] = true
		for _, l := range [][]*dentry{n.links, n.places} {
			for _, d := range l {
				add(d.parent)
			}
		}
	}
	for _, n := range x.nodes {
		if n.w != nil || len(n.places) > 1 {
			add(n)
		}
		for _, d := range n.children {
			if d.local != d.remote || d.w != nil {
				add(n)
				add(d.local)
				add(d.remote)
			}
		}
	}
	return told
}

// snapshot yields the records that make the inodes in told; mu is held.
func (x *Exclusive) snapshot(told map[*xnode]bool) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		tell := func(r record) bool {
			r.Seq = x.seq
			p := r.encode()
			x.keep += tellBytes(p, len(r.Data))
			return yield(p)
		}
		for n := range told {
			if !tell(n.record()) {
				return
			}
		}
		if r := x.root; r.w != nil && !tell(record{Kind: recAttr, Ino: r.ino, Attr: r.attr, Mask: r.send}) {
			return
		}
		for n := range told {
			for _, d := range n.places {
				if !tell(record{Kind: recPlaced, Ino: n.ino, Parent: d.parent.ino, Name: d.name}) {
					return
				}
			}
			for _, d := range n.links {
				if !tell(record{Kind: recLink, Ino: n.ino, Parent: d.parent.ino, Name: d.name}) {
					return
				}
			}
			if n.data == nil {
				continue
			}
			for e := range n.data.dirty.All() {
				r := record{Kind: recWrite, Ino: n.ino, Off: e.Off, Len: e.Len(), Attr: n.attr}
				if n.data.mem != nil {
					r.Data = n.data.mem[e.Off:e.End]
				}
				if !tell(r) {
					return
				}
			}
		}
	}
}

// record is what the journal must know of an inode but its names and dirty bytes; mu is held.
func (n *xnode) record() record {
	r := record{Kind: recNode, Ino: n.ino, Attr: n.attr, Target: n.target, Mask: n.send}
	if len(n.places) == 0 {
		r.Mask |= sendMode | sendTimes
	}
	if n.isFile() {
		r.Off = int64(n.attr.Size)
	}
	if d := n.data; d != nil {
		if !d.dirty.Empty() || d.cut || n.w != nil {
			r.Off = d.base
		}
		if d.cut {
			r.Len = d.cutTo + 1
		}
	}
	return r
}
