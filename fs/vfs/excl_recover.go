package vfs

import (
	"fmt"
	"iter"
	"slices"
)

// recover takes up what an earlier mount has left in the spool: the journal tells
// what was changed here and what of it the node has. What was on its way then is
// sent again; see onNames for why that is right.
func (x *Exclusive) recover() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var records []record
	sent := map[Ino]uint64{} // up to which change the node has an inode's content and attributes
	err := x.spool.Replay(func(payload []byte) error {
		r, err := decodeRecord(payload)
		if err != nil {
			return err
		}
		if r.Kind == recSent {
			sent[r.Ino] = max(sent[r.Ino], r.Seq)
		}
		x.seq, x.lastIno = max(x.seq, r.Seq), max(x.lastIno, r.Ino)
		records = append(records, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the spool %s: %w", x.o.Spool, err)
	}
	for i := range records {
		if err := x.replay(&records[i], sent); err != nil {
			return fmt.Errorf("read the spool %s: record %d: %w", x.o.Spool, i+1, err)
		}
	}
	for _, n := range x.nodes {
		if n.made && sent[n.ino] == 0 {
			n.send |= sendMode | sendTimes
		}
		x.resume(n)
	}
	if len(records) > 0 {
		x.log.Info("taking up what an earlier mount has not sent", "changes", x.marks.n, "bytes", x.dirtyBytes)
	}
	return x.cleanData()
}

// replay applies one record to the tree; mu is held.
func (x *Exclusive) replay(r *record, sent map[Ino]uint64) error {
	n := x.nodes[r.Ino]
	parent, parent2 := x.nodes[r.Parent], x.nodes[r.Parent2]
	needs := func(nodes ...*xnode) error {
		if slices.Contains(nodes, nil) {
			return errBadRecord
		}
		return nil
	}
	switch r.Kind {
	case recBase, recMake:
		if err := needs(parent); err != nil {
			return err
		}
		if n == nil {
			a := r.Attr
			a.Ino = r.Ino
			n = &xnode{ino: r.Ino, attr: a, target: r.Target, generation: x.generation, made: r.Kind == recMake}
			if n.isDir() {
				n.children = map[string]*dentry{}
				n.complete = n.made
			}
			if n.made && n.isFile() {
				n.data = &content{}
			}
			x.nodes[r.Ino] = n
		}
		d := x.at(parent, r.Name)
		x.setLocal(d, n)
		if r.Kind == recBase {
			x.setRemote(d, n)
		}
	case recLink:
		if err := needs(parent, n); err != nil {
			return err
		}
		x.setLocal(x.at(parent, r.Name), n)
	case recUnlink:
		if err := needs(parent, parent.foundIn(r.Name)); err != nil {
			return err
		}
		x.setLocal(x.at(parent, r.Name), nil)
	case recRename:
		if err := needs(parent, parent2, parent.foundIn(r.Name)); err != nil {
			return err
		}
		n = parent.found(r.Name)
		x.setLocal(x.at(parent2, r.Name2), n)
		x.setLocal(x.at(parent, r.Name), nil)
		n.moved = n.moved || len(n.places) == 0 && n.isFile()
	case recPlaced:
		if err := needs(parent); err != nil {
			return err
		}
		x.setRemote(x.at(parent, r.Name), n)
		if r.Parent2 != 0 && parent2 != nil {
			x.setRemote(x.at(parent2, r.Name2), nil)
		}
	case recSpooled:
		if n != nil && n.data != nil { // the file in the spool holds it, and maybe newer bytes
			x.memBytes -= int64(cap(n.data.mem))
			n.data.mem, n.data.spooled = nil, true
		}
	case recAttr, recWrite, recCut:
		if n == nil { // removed since
			return nil
		}
		x.replayContent(n, r, r.Seq <= sent[r.Ino])
	}
	return nil
}

// foundIn is found for a folder that may not be known.
func (n *xnode) foundIn(name string) *xnode {
	if n == nil {
		return nil
	}
	return n.found(name)
}

// replayContent applies a change of content or attributes, which the node has if
// done is set; mu is held.
func (x *Exclusive) replayContent(n *xnode, r *record, done bool) {
	switch {
	case r.Kind == recAttr && !done:
		n.send |= r.Mask
	case r.Kind == recAttr:
	case done:
		n.localData().base = int64(r.Attr.Size)
	case r.Kind == recWrite:
		d := n.localData()
		if len(r.Data) > 0 {
			x.memWrite(d, r.Data, r.Off)
		} else {
			d.spooled = true
		}
		d.local.Add(r.Off, r.Off+r.Len)
		d.dirty.Add(r.Off, r.Off+r.Len)
	default:
		x.resize(n, int64(r.Attr.Size))
	}
	ino := n.attr.Ino
	n.attr = r.Attr
	n.attr.Ino = ino
}

// resume queues what is to be sent of an inode; mu is held.
func (x *Exclusive) resume(n *xnode) {
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
	x.reap(n)
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

// journalSize is how long the journal may become before it is begun anew, which
// is possible whenever all is sent.
const journalSize = 1 << 20

// compact begins the journal anew if it is long and nothing is to be sent; mu is held.
func (x *Exclusive) compact() {
	if x.marks.n > 0 || len(x.refused) > 0 || x.running > 0 || x.spool.Size() < journalSize {
		return
	}
	var none iter.Seq[[]byte] = func(func([]byte) bool) {}
	if err := x.spool.Rewrite(none); err != nil {
		x.log.Warn("cannot begin the journal anew", "error", err)
		return
	}
	x.generation++
}
