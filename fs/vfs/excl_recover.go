package vfs

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// recover reads what an earlier mount has left in the spool: the journal tells
// what was changed here and what of it the node has. What the node was asked for
// and has perhaps done is put among the doubts. resumeAll then queues the rest.
func (x *Exclusive) recover() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.recovering = true
	defer func() { x.recovering = false }()
	r := replayer{x: x, sent: map[Ino]uint64{}, doubts: map[place]*doubt{}}
	count, keep := 0, int64(0)
	read := func(f func(r *record) error) error {
		count, keep = 0, 0
		return x.spool.Replay(func(payload []byte) error {
			count++
			r, err := decodeRecord(payload)
			if err == nil {
				keep += tellBytes(payload, len(r.Data))
				err = f(&r)
			}
			if err != nil {
				return fmt.Errorf("record %d: %w", count, err)
			}
			return nil
		})
	}
	// Twice, since only the end tells what need not be kept of the beginning.
	err := read(r.look)
	if err == nil {
		err = read(r.replay)
	}
	if err != nil {
		return fmt.Errorf("read the spool %s: %w", x.o.Spool, err)
	}
	for _, v := range r.doubts {
		v.seq = x.nextSeq()
		v.d.doubts++
		if v.from != nil {
			v.from.doubts++
		}
		x.doubts = append(x.doubts, v)
	}
	for _, n := range x.nodes {
		if n.made && r.sent[n.ino] == 0 {
			n.send |= sendMode | sendTimes
		}
	}
	x.recovered, x.keep = count, keep
	return nil
}

// resumeAll queues what the node does not have, when it is certain what it has.
func (x *Exclusive) resumeAll() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dirtyBytes = 0
	for _, n := range x.nodes {
		x.resume(n)
	}
	for _, n := range x.nodes {
		for _, d := range n.children {
			x.tidy(d)
		}
		x.reap(n)
	}
	if x.recovered > 0 {
		x.log.Info("taking up what an earlier mount has not sent", "changes", x.marks.n, "bytes", x.dirtyBytes)
	}
	return x.cleanData()
}

// place is a name as the journal has it.
type place struct {
	parent Ino
	name   string
}

// replayer makes the tree of the records of a journal.
type replayer struct {
	x      *Exclusive
	sent   map[Ino]uint64   // up to which change the node has an inode's content and attributes
	doubts map[place]*doubt // what the node was asked for, by the name it is for
}

// look takes from a record what must be known before the first is replayed.
func (p *replayer) look(r *record) error {
	if r.Kind == recSent {
		p.sent[r.Ino] = max(p.sent[r.Ino], r.Seq)
	}
	p.x.seq, p.x.lastIno = max(p.x.seq, r.Seq), max(p.x.lastIno, r.Ino)
	return nil
}

// certain ends the doubts about a name: the journal goes on with what it became.
func (p *replayer) certain(at place) {
	for target, v := range p.doubts {
		if target == at || v.from != nil && v.from.parent.ino == at.parent && v.from.name == at.name {
			delete(p.doubts, target)
		}
	}
}

// replay applies one record to the tree; mu is held.
func (p *replayer) replay(r *record) error {
	x := p.x
	n := x.nodes[r.Ino]
	parent, parent2 := x.nodes[r.Parent], x.nodes[r.Parent2]
	needs := func(nodes ...*xnode) error {
		for _, n := range nodes {
			if n == nil {
				return errBadRecord
			}
		}
		return nil
	}
	folders := func(nodes ...*xnode) error {
		for _, n := range nodes {
			if n == nil || !n.isDir() {
				return errBadRecord
			}
		}
		return nil
	}
	done := r.Seq <= p.sent[r.Ino]
	switch r.Kind {
	case recBase, recMake:
		if err := folders(parent); err != nil {
			return err
		}
		switch {
		case n == nil:
			n = x.replayNode(r)
			n.made = r.Kind == recMake
		case r.Kind == recMake:
			return errBadRecord
		}
		return x.replayName(parent, r.Name, n, r.Kind == recMake || !isAside(r.Name), r.Kind == recBase)
	case recNode:
		if n != nil || r.Ino == RootIno {
			return errBadRecord
		}
		n = x.replayNode(r)
		switch {
		case n.isFile() && done:
			n.data = &content{base: int64(r.Attr.Size)}
		case n.isFile():
			n.data = &content{base: r.Off, cut: r.Len > 0, cutTo: max(r.Len-1, 0)}
		}
		if !done {
			n.send = r.Mask
		}
	case recLink:
		if err := errors.Join(folders(parent), needs(n)); err != nil {
			return err
		}
		n.moved = n.moved || len(n.places) == 0 && !n.isSymlink()
		return x.replayName(parent, r.Name, n, true, false)
	case recUnlink:
		if err := errors.Join(folders(parent), needs(parent.foundIn(r.Name))); err != nil {
			return err
		}
		x.setLocal(x.at(parent, r.Name), nil)
	case recRename:
		if err := errors.Join(folders(parent, parent2), needs(parent.foundIn(r.Name))); err != nil {
			return err
		}
		n = parent.found(r.Name)
		n.moved = n.moved || len(n.places) == 0 && !n.isSymlink()
		if err := x.replayName(parent2, r.Name2, n, true, false); err != nil {
			return err
		}
		x.setLocal(x.at(parent, r.Name), nil)
	case recPlaced:
		if err := folders(parent); err != nil {
			return err
		}
		if n == nil && r.Ino != 0 {
			return errBadRecord
		}
		p.certain(place{r.Parent, r.Name})
		if n == nil {
			x.setRemote(x.at(parent, r.Name), nil)
		} else if err := x.replayName(parent, r.Name, n, false, true); err != nil {
			return err
		}
		if r.Parent2 != 0 && parent2 != nil && parent2.isDir() {
			p.certain(place{r.Parent2, r.Name2})
			x.setRemote(x.at(parent2, r.Name2), nil)
		}
	case recIntent:
		return p.replayIntent(r, n, parent, parent2)
	case recSpooled:
		if n != nil && n.data != nil && !done { // the file in the spool holds it, and maybe newer bytes
			x.memBytes -= int64(cap(n.data.mem))
			n.data.mem, n.data.spooled = nil, true
		}
	case recLearnt:
		if n != nil {
			x.replayLearnt(n, r)
		}
	case recAttr, recWrite, recCut:
		if n == nil { // removed before the journal was begun
			return nil
		}
		return x.replayContent(n, r, done)
	}
	return nil
}

// replayNode makes the inode that a record tells of; mu is held.
func (x *Exclusive) replayNode(r *record) *xnode {
	a := r.Attr
	a.Ino = r.Ino
	n := &xnode{ino: r.Ino, attr: a, target: r.Target, generation: x.generation}
	switch {
	case n.isDir():
		n.children = map[string]*dentry{}
	case n.isFile() && r.Kind == recMake:
		n.data = &content{}
	}
	x.nodes[r.Ino] = n
	return n
}

// replayName gives a name to an inode, here, on the node, or both; mu is held.
func (x *Exclusive) replayName(parent *xnode, name string, n *xnode, here, there bool) error {
	if !sane(name) || n.ino == RootIno {
		return errBadRecord
	}
	if n.isDir() && (here && inside(parent, n, func(n *xnode) []*dentry { return n.links }) ||
		there && inside(parent, n, func(n *xnode) []*dentry { return n.places })) {
		return errBadRecord
	}
	d := x.at(parent, name)
	if here {
		for n.isDir() && len(n.links) > 0 && n.links[0] != d {
			x.setLocal(n.links[0], nil)
		}
		x.setLocal(d, n)
	}
	if there {
		for n.isDir() && len(n.places) > 0 && n.places[0] != d {
			x.setRemote(n.places[0], nil)
		}
		x.setRemote(d, n)
	}
	return nil
}

// inside reports whether the folder p is n or inside it, by names here or on the node.
func inside(p, n *xnode, names func(*xnode) []*dentry) bool {
	for ; p != n; p = names(p)[0].parent {
		if len(names(p)) == 0 {
			return false
		}
	}
	return true
}

// replayIntent notes what the node was asked for; mu is held.
func (p *replayer) replayIntent(r *record, n, parent, parent2 *xnode) error {
	kind := actionKind(r.Mask)
	rename := kind == actRename
	gone := kind == actRemove || kind == actRmdir
	switch {
	case kind < 0 || kind > actContent, parent == nil || !parent.isDir(), !sane(r.Name), r.Ino == RootIno, gone != (n == nil), rename != (parent2 != nil && parent2.isDir() && sane(r.Name2)):
		return errBadRecord
	}
	at := place{r.Parent, r.Name}
	v := &doubt{kind: kind, d: p.x.at(parent, r.Name), n: n}
	if rename {
		v.from = p.x.at(parent2, r.Name2)
	}
	if n != nil {
		v.typ = n.attr.Mode & TypeMask
	}
	p.certain(at)
	p.doubts[at] = v
	return nil
}

// foundIn is found for a folder that may not be known.
func (n *xnode) foundIn(name string) *xnode {
	if n == nil {
		return nil
	}
	return n.found(name)
}

// replayLearnt makes an inode what it is on the node; mu is held.
func (x *Exclusive) replayLearnt(n *xnode, r *record) {
	if n.data != nil {
		x.memBytes -= int64(cap(n.data.mem))
		n.data = nil
	}
	mode := n.attr.Mode & TypeMask
	n.attr, n.send = r.Attr, 0
	n.attr.Ino, n.attr.Mode = n.ino, mode|r.Attr.Mode&^TypeMask
}

// replayContent applies a change of content or attributes, which the node has if
// done is set; mu is held.
func (x *Exclusive) replayContent(n *xnode, r *record, done bool) error {
	switch {
	case r.Kind == recAttr:
		if !done {
			n.send |= r.Mask
		}
	case !n.isFile() || r.Attr.Size > math.MaxInt64 || r.Off > math.MaxInt64-r.Len || uint64(r.Off+r.Len) > r.Attr.Size && r.Kind == recWrite:
		return errBadRecord
	case done:
		if n.data != nil {
			x.memBytes -= int64(cap(n.data.mem))
		}
		n.data = &content{base: int64(r.Attr.Size)}
	case r.Kind == recWrite:
		d := n.localData()
		switch {
		case len(r.Data) == 0:
			d.spooled = true
		case r.Off+r.Len > memFile:
			return errBadRecord
		default:
			x.memWrite(d, r.Data, r.Off)
		}
		d.local.Add(r.Off, r.Off+r.Len)
		d.dirty.Add(r.Off, r.Off+r.Len)
	default:
		x.resize(n, int64(r.Attr.Size))
	}
	if r.Attr.Mode&TypeMask != n.attr.Mode&TypeMask {
		return errBadRecord
	}
	n.attr = r.Attr
	n.attr.Ino = n.ino
	return nil
}

// resume queues what is to be sent of an inode; mu is held.
func (x *Exclusive) resume(n *xnode) {
	if n.isDir() && n.ino != RootIno {
		n.complete = len(n.places) == 0 // else somebody may have worked in it on the node
		if len(n.places) == 0 && len(n.links) > 0 {
			n.send |= sendMode | sendTimes // it is made, perhaps again
		}
	}
	for _, d := range slices.Concat(n.links, n.places) {
		x.ensureWork(d)
	}
	if n.data != nil {
		x.dirtyBytes += n.data.dirty.Bytes()
	}
	if n.send != 0 || n.data != nil && (!n.data.dirty.Empty() || n.data.cut) {
		x.changedNode(n, x.nextSeq())
		n.pressed = true
		x.queue(n.w)
	}
}

// cleanData removes spooled data that no inode needs; mu is held.
func (x *Exclusive) cleanData() error {
	ids, err := x.spool.DataIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if n := x.nodes[Ino(id)]; n == nil || n.data == nil || !n.data.spooled {
			if err := x.spool.Remove(id); err != nil {
				return err
			}
		}
	}
	return nil
}
