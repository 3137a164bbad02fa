package vfs

import (
	"errors"
	"slices"
	"syscall"
)

// A full local disk refuses new changes with ENOSPC and keeps all that were
// acknowledged. What the node has done is known all the same: the records of it wait
// in memory, and no data that the journal still tells of is removed before.

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// withRoom writes to the spool, and once more after dropping all that is kept there
// only to be read again; mu is held.
func (x *Exclusive) withRoom(write func() error) error {
	err := write()
	if !isFull(err) {
		return err
	}
	x.cached.clear(x)
	if err = write(); isFull(err) {
		x.full = true
	}
	return err
}

// tell writes a record of what the node has done or is asked for, or keeps it until
// there is room; mu is held.
func (x *Exclusive) tell(r *record) {
	x.owed = append(x.owed, r.encode())
	err := x.payOwed()
	if err == nil {
		return
	}
	if len(x.owed) == 1 {
		x.log.Warn("cannot write to the journal", "error", err)
	}
	if r.Kind == recSent {
		if x.unsaid == nil {
			x.unsaid = map[Ino]bool{}
		}
		x.unsaid[r.Ino] = true
	}
}

// payOwed writes the records that there was no room for; mu is held.
func (x *Exclusive) payOwed() error {
	const together = 1000
	for len(x.owed) > 0 {
		some := x.owed[:min(together, len(x.owed))]
		if err := x.withRoom(func() error { return x.spool.AppendAll(some...) }); err != nil {
			return err
		}
		x.owed = x.owed[len(some):]
	}
	x.owed = nil
	if x.unsaid != nil {
		x.removeLeft()
	}
	return nil
}

// removeLeft removes the data that was kept because the journal told of it; mu is held.
func (x *Exclusive) removeLeft() {
	for _, ino := range x.left {
		if n := x.nodes[ino]; n != nil && n.data != nil && n.data.spooled {
			continue
		}
		if err := x.spool.Remove(uint64(ino)); err != nil {
			x.log.Warn("cannot remove spooled data", "error", err)
		}
	}
	x.left, x.unsaid = nil, nil
}

// torn takes note of a write that failed and may have changed some of the bytes that
// are here: the node gets those that there are now. mu is held.
func (x *Exclusive) torn(n *xnode, off, end int64) {
	d := n.data
	if d == nil || d.mem != nil {
		return
	}
	before := d.dirty.Bytes()
	for _, e := range slices.Collect(d.local.Within(off, end)) {
		d.dirty.Add(e.Off, e.End)
	}
	if d.dirty.Bytes() == before {
		return
	}
	x.dirtyBytes += d.dirty.Bytes() - before
	x.changedNode(n, x.nextSeq())
	x.written(n)
}
