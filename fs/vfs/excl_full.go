package vfs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// A full local disk refuses new changes with ENOSPC and keeps all that were
// acknowledged. What the node has done is known all the same: the records of it wait
// in memory, and no data that the journal still tells of is removed before. For as long
// as they do, nothing is sent of which the journal must tell first: a mount after kill -9
// would do it a second time. So that all that was acknowledged gets away from a full disk,
// room for what is to be told of it is set aside in the journal when it is.

// tellFactor is how many bytes are set aside for each byte of a record that is no data;
// a variable so that tests do without.
var tellFactor int64 = 2

// keepLeast is how many are set aside in any case, tellFactor times.
const keepLeast = 32 << 10

// frameBytes is what the journal takes for a record, besides its bytes.
const frameBytes = 32

// tellBytes is the room for telling what becomes of a change whose record has so many bytes.
func tellBytes(payload []byte, data int) int64 {
	return tellFactor * int64(len(payload)-data+frameBytes)
}

// errSpoolFull ends an action of which the journal cannot tell; it waits for room.
var errSpoolFull = fmt.Errorf("the disk of the spool is full: %w", syscall.ENOSPC)

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

// tellFirst writes a record of what the node is about to be asked for; if there is no
// room for it, nothing more is sent until there is. mu is held.
func (x *Exclusive) tellFirst(r *record) error {
	err := x.payOwed()
	if err == nil {
		err = x.withRoom(func() error { return x.spool.AppendAll(r.encode()) })
	}
	if err == nil {
		return nil
	}
	if !x.stuck {
		x.log.Warn("nothing is sent until there is room in the spool", "error", err)
	}
	x.stuck = true
	x.changed.Broadcast()
	return errSpoolFull
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
	if x.stuck {
		x.stuck = false
		x.changed.Broadcast()
	}
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
