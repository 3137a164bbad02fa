package vfs

import (
	"io"
	"slices"
	"syscall"
	"time"
)

// Small files are kept in memory, and in the journal until they are on the node:
// making a file of its own in the spool for each costs more than sending it.
const (
	// memFile is the largest file kept so.
	memFile = 64 << 10
	// memMost is how much memory they may take, sent or not.
	memMost = 16 << 20
	// memKeep is how much of it those that are sent leave to those that are not.
	memKeep = 8 << 20
	// memJournal is how long the journal may be for more data to go into it.
	memJournal = 64 << 20
	// memPatience is how long a writer waits for room in that memory; when it has
	// waited in vain, none waits for as long as memPause.
	memPatience = 50 * time.Millisecond
	memPause    = time.Second
)

// fits says whether n may be kept in memory as far as end; mu is held.
func (x *Exclusive) fits(n *xnode, end int64) bool {
	held := int64(0)
	if n.data != nil {
		held = int64(cap(n.data.mem))
	}
	return x.memBytes+max(0, end-held) <= memMost && x.spool.Size() < memJournal
}

// awaitMemory waits a moment for room for a small file: what keeps a node that is
// not slow from its work is files in the spool, if both are on one disk, and they
// take time of a processor anyway. mu is held, and let go meanwhile.
func (x *Exclusive) awaitMemory(n *xnode, end int64) {
	if end > memFile || n.data != nil && n.data.spooled || x.fits(n, end) || time.Since(x.memVain) < memPause {
		return
	}
	over := false
	timer := time.AfterFunc(memPatience, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		over = true
		x.changed.Broadcast()
	})
	defer timer.Stop()
	for !over && !x.fits(n, end) && x.running > 0 && x.fence == nil && !x.draining {
		x.changed.Wait()
	}
	if over && !x.fits(n, end) {
		x.memVain = time.Now()
	}
}

// store puts data where it survives us before it is acknowledged: into the record
// of a small file, or into the spool. mu is held, and let go while the spool is
// written.
func (x *Exclusive) store(n *xnode, r *record, data []byte) error {
	d := n.localData()
	x.cached.drop(n)
	end := r.Off + r.Len
	if end <= memFile && !d.spooled && r.Len > 0 {
		if !x.fits(n, end) {
			x.cached.trim(x)
		}
		if x.fits(n, end) {
			r.Data = data
			return nil
		}
	}
	if err := x.toSpool(n, d); err != nil {
		return err
	}
	// What is overwritten may be on its way, and is sent again then.
	write := func() error {
		x.mu.Unlock()
		defer x.mu.Lock()
		return x.spool.WriteAt(uint64(n.ino), data, r.Off)
	}
	err := x.withRoom(write)
	x.unsynced[n.ino] = true
	if err != nil {
		x.torn(n, r.Off, end)
	}
	return err
}

// toSpool moves a small file's data to the spool; mu is held.
func (x *Exclusive) toSpool(n *xnode, d *content) error {
	if d.mem != nil {
		for e := range d.local.All() {
			err := x.withRoom(func() error { return x.spool.WriteAt(uint64(n.ino), d.mem[e.Off:e.End], e.Off) })
			if err != nil {
				return err
			}
		}
		if err := x.note(n.places, &record{Kind: recSpooled, Ino: n.ino, Seq: x.nextSeq()}); err != nil {
			return err
		}
		x.memBytes -= int64(cap(d.mem))
		d.mem = nil
		x.unsynced[n.ino] = true
	}
	d.spooled = true
	return nil
}

// memWrite puts data into a small file; mu is held.
func (x *Exclusive) memWrite(d *content, data []byte, off int64) {
	end := int(off) + len(data)
	before := cap(d.mem)
	if int(off) == len(d.mem) { // the memory is not cleared first
		d.mem = append(d.mem, data...)
	} else {
		if end > len(d.mem) {
			d.mem = slices.Grow(d.mem, end-len(d.mem))[:end]
		}
		copy(d.mem[off:], data)
	}
	x.memBytes += int64(cap(d.mem) - before)
}

// spoolError is the error of what the spool should hold and does not: this workstation
// has lost it, and neither the link nor the node is to blame.
type spoolError struct{ err error }

func (e *spoolError) Error() string { return "read the spool: " + e.err.Error() }

func (e *spoolError) Unwrap() error { return syscall.EIO }

// readLocal reads bytes that are local, from memory or the spool. The error is errMoved
// if they are not local any more, and a *spoolError if they should be.
func (x *Exclusive) readLocal(n *xnode, dest []byte, off int64) error {
	for again := false; ; again = true {
		x.mu.Lock()
		d := n.data
		// The content may be another since its place was looked up: given up, cut, or written anew.
		local := func() bool { return n.data != nil && n.data == d && d.local.Covers(off, off+int64(len(dest))) }
		if !local() {
			x.mu.Unlock()
			return errMoved
		}
		if d.mem != nil {
			defer x.mu.Unlock()
			if copied := copy(dest, d.mem[min(off, int64(len(d.mem))):]); copied < len(dest) {
				clear(dest[copied:]) // never what the buffer had before
				return &spoolError{io.ErrUnexpectedEOF}
			}
			return nil
		}
		x.mu.Unlock()
		err := x.spool.ReadAt(uint64(n.ino), dest, off)
		x.mu.Lock()
		there := local()
		x.mu.Unlock()
		switch {
		case !there:
			return errMoved
		case err == nil:
			return nil
		case again: // else it may have been removed and written again at this moment
			return &spoolError{err}
		}
	}
}
