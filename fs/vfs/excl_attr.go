package vfs

import (
	"context"
	"time"
)

// Getattr implements [FileSystem].
func (x *Exclusive) Getattr(ctx context.Context, ino Ino, h Handle) (Entry, error) {
	x.mu.Lock()
	n, err := x.node(ino)
	if err == nil && n.stale {
		x.mu.Unlock()
		if ino == RootIno {
			err = alwaysDo(x.link, func(ctx context.Context) error { return x.refresh(ctx, n) })
		} else {
			err = x.refresh(ctx, n)
		}
		x.mu.Lock()
	}
	defer x.mu.Unlock()
	if err == nil && n != x.root {
		err = x.view.usable(n.attr)
	}
	if err != nil {
		return Entry{}, &Error{"stat", "", err}
	}
	e := x.entry(n)
	if n.stale { // the node is silent
		e.AttrValid = 0
	}
	return e, nil
}

func (n *xnode) touchCtime() { n.attr.Ctime = time.Now().UnixNano() }

// Setattr implements [FileSystem].
func (x *Exclusive) Setattr(ctx context.Context, ino Ino, h Handle, set SetAttr) (Entry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, err := x.node(ino)
	if err == nil {
		err = x.writable()
	}
	if err == nil && set.Size != nil && *set.Size > n.attr.Size {
		err = x.reserve(ctx, 0) // the node may be full: a hole takes nothing
	}
	if err != nil {
		return Entry{}, &Error{"setattr", "", err}
	}
	attr, mask := n.changedAttr(set)
	if mask&sendOwner != 0 {
		_, _, err := x.view.owner(&attr.UID, &attr.GID)
		if err == nil {
			err = x.view.given(set, n.attr)
		}
		if err != nil {
			return Entry{}, &Error{"setattr", n.name(), err}
		}
	}
	seq := x.nextSeq()
	records := []*record{}
	if set.Size != nil {
		records = append(records, &record{Kind: recCut, Seq: seq, Ino: ino, Attr: attr})
	}
	if mask != 0 {
		records = append(records, &record{Kind: recAttr, Seq: seq, Ino: ino, Attr: attr, Mask: mask})
	}
	if len(records) == 0 {
		return x.entry(n), nil
	}
	if err := x.note(n.places, records...); err != nil {
		return Entry{}, &Error{"setattr", "", err}
	}
	if set.Size != nil {
		x.resize(n, int64(*set.Size))
	}
	n.attr = attr
	n.send |= mask
	x.changedNode(n, seq)
	if n.w != nil && !x.early(n) {
		x.queue(n.w)
	} else if n.w != nil {
		x.delayed[n.w] = struct{}{}
	}
	return x.entry(n), nil
}

// changedAttr is what the attributes become, and which of them the node must be told.
func (n *xnode) changedAttr(set SetAttr) (Attr, attrMask) {
	a := n.attr
	var mask attrMask
	if set.Mode != nil && a.Mode&0o7777 != *set.Mode {
		a.Mode = a.Mode&TypeMask | *set.Mode
		if !n.isSymlink() {
			mask |= sendMode
		}
	}
	if set.UID != nil && a.UID != *set.UID || set.GID != nil && a.GID != *set.GID {
		mask |= sendOwner
		if set.UID != nil {
			a.UID = *set.UID
		}
		if set.GID != nil {
			a.GID = *set.GID
		}
	}
	now := time.Now().UnixNano()
	if set.Size != nil {
		a.Size, a.Mtime = *set.Size, now
		mask |= sendSize | sendTimes
	}
	if set.Atime != nil {
		a.Atime = *set.Atime
		mask |= sendTimes
	}
	if set.Mtime != nil {
		a.Mtime = *set.Mtime
		mask |= sendTimes
	}
	a.Ctime = now
	return a, mask
}

// resize cuts or extends a file's content; mu is held.
func (x *Exclusive) resize(n *xnode, size int64) {
	d := n.localData()
	if size < int64(n.attr.Size) {
		before := d.dirty.Bytes()
		d.local.Truncate(size)
		d.dirty.Truncate(size)
		x.dirtyBytes -= before - d.dirty.Bytes()
		d.base = min(d.base, size)
		x.cutNode(d, size)
		x.changed.Broadcast()
	}
	n.attr.Size = uint64(size)
}
