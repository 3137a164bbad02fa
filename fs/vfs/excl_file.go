package vfs

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// xfile is an open file of exclusive mode.
type xfile struct {
	n        *xnode
	writable bool
}

func (x *Exclusive) file(h Handle) (*xfile, error) {
	if f := x.files[h]; f != nil {
		return f, nil
	}
	return nil, syscall.EBADF
}

// addFile opens an inode; mu is held.
func (x *Exclusive) addFile(n *xnode, flags uint32) Opened {
	f := &xfile{n: n, writable: flags&syscall.O_ACCMODE != syscall.O_RDONLY}
	n.opens++
	if f.writable {
		n.writers++
	}
	x.lastHandle++
	x.files[x.lastHandle] = f
	return Opened{Handle: x.lastHandle, KeepCache: true, NoFlush: true}
}

// Create implements [FileSystem].
func (x *Exclusive) Create(ctx context.Context, parent Ino, name string, flags, mode uint32) (Entry, Opened, error) {
	n, err := x.make(ctx, "create", parent, name, TypeRegular|mode, "")
	defer x.mu.Unlock()
	if err != nil {
		return Entry{}, Opened{}, err
	}
	o := x.addFile(n, flags)
	return x.entry(n), o, nil
}

// Open implements [FileSystem]; nothing is asked of the node.
func (x *Exclusive) Open(ctx context.Context, ino Ino, flags uint32) (Opened, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, err := x.node(ino)
	if err == nil && flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		err = x.writable()
	}
	switch {
	case err != nil:
	case n.isDir():
		err = syscall.EISDIR
	case n.dead() && n.opens == 0:
		err = syscall.ESTALE // its name was given up, or is gone on the node: the kernel looks again
	}
	if err != nil {
		return Opened{}, &Error{"open", "", err}
	}
	o := x.addFile(n, flags)
	o.KeepCache = !n.stale
	return o, nil
}

// Read implements [FileSystem]: what is local from the spool, the rest from the node.
func (x *Exclusive) Read(ctx context.Context, h Handle, dest []byte, off int64) (int, error) {
	x.mu.Lock()
	f, err := x.file(h)
	if err != nil {
		x.mu.Unlock()
		return 0, &Error{"read", "", err}
	}
	n := f.n
	for {
		size := int64(n.attr.Size)
		if off >= size || len(dest) == 0 {
			x.mu.Unlock()
			return 0, nil
		}
		dest = dest[:min(int64(len(dest)), size-off)]
		parts := n.parts(off, off+int64(len(dest)))
		x.mu.Unlock()
		hit := true
		for _, p := range parts {
			part := dest[p.Off-off : p.End-off]
			switch p.from {
			case fromSpool:
				err = x.readLocal(n, part, p.Off)
			case fromNode:
				var local bool
				local, err = x.readNode(ctx, n, part, p.Off)
				hit = hit && local
			default:
				clear(part)
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			x.link.metrics.data.count(hit)
			return len(dest), nil
		}
		x.mu.Lock()
		if err == errMoved && ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != errMoved {
			defer x.mu.Unlock()
			return 0, &Error{"read", n.name(), err}
		}
		err = nil
	}
}

// errMoved says that content is not any more where it was to be read.
var errMoved = errors.New("the content has moved")

// Write implements [FileSystem]: into the spool, then into the journal, then it
// is acknowledged.
func (x *Exclusive) Write(ctx context.Context, h Handle, data []byte, off int64, cached bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.file(h)
	if err == nil {
		err = x.writable()
	}
	if err == nil {
		x.awaitMemory(f.n, off+int64(len(data)))
		err = x.reserve(ctx, int64(len(data)))
	}
	if err != nil {
		return &Error{"write", "", err}
	}
	n := f.n
	r := &record{Kind: recWrite, Ino: n.ino, Off: off, Len: int64(len(data))}
	n.storing++ // its data stays while mu is let go
	x.storing += int64(len(data))
	err = x.store(n, r, data)
	x.storing -= int64(len(data))
	n.storing--
	x.changed.Broadcast()
	if err != nil {
		return &Error{"write", n.name(), err}
	}
	end := off + int64(len(data))
	attr := n.attr
	attr.Size = max(attr.Size, uint64(end))
	attr.Mtime = time.Now().UnixNano()
	attr.Ctime = attr.Mtime
	seq := x.nextSeq()
	r.Seq, r.Attr = seq, attr
	if err := x.note(n.places, r); err != nil {
		if r.Data == nil {
			x.torn(n, off, end)
		}
		return &Error{"write", n.name(), err}
	}
	d := n.localData()
	if r.Data != nil {
		x.memWrite(d, r.Data, off)
	}
	before := d.dirty.Bytes()
	x.cached.drop(n)
	d.local.Add(off, end)
	d.dirty.Add(off, end)
	x.dirtyBytes += d.dirty.Bytes() - before
	n.attr = attr
	if n.dead() && len(n.places) == 0 { // it will never be on the node
		x.nothingDirty(n)
	}
	x.changedNode(n, seq)
	x.written(n)
	return nil
}

// written starts sending a file of which enough has been written; mu is held.
func (x *Exclusive) written(n *xnode) {
	if n.w == nil {
		return
	}
	w := n.w
	if len(n.places) == 0 && len(n.links) > 0 && n.links[0].w != nil {
		w = n.links[0].w // it is made with its content
	}
	if x.early(n) {
		if !w.queued && w.flying == nil {
			x.delayed[w] = struct{}{}
		}
		return
	}
	x.queue(w)
}

// Flush implements [FileSystem]: a descriptor is closed, so what was written is
// likely all there will be.
func (x *Exclusive) Flush(ctx context.Context, h Handle) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.file(h)
	if err != nil {
		return &Error{"close", "", err}
	}
	if f.writable {
		x.closed(f.n)
	}
	return nil
}

// closed sends what was put off of a file that is likely complete; mu is held. A new
// and empty one is left for later: it is often a lock or a trial, and soon gone.
func (x *Exclusive) closed(n *xnode) {
	if len(n.places) > 0 || n.attr.Size > 0 {
		x.press(n)
	}
}

// press sends what was put off of a file; mu is held.
func (x *Exclusive) press(n *xnode) {
	if n.w != nil {
		n.pressed = true
		x.queue(n.w)
	}
	for _, d := range n.links {
		if d.w != nil {
			n.pressed = true
			x.queue(d.w)
		}
	}
}

// Fsync implements [FileSystem]: the barrier of one file, with fsync on the node.
func (x *Exclusive) Fsync(ctx context.Context, h Handle) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.file(h)
	if err != nil {
		return &Error{"fsync", "", err}
	}
	n := f.n
	if n.dead() {
		return nil // it will never be on the node
	}
	n.send |= sendSync
	x.changedNode(n, x.nextSeq())
	x.press(n)
	// Here, too, and meanwhile: should the link be lost, this is what there is.
	x.mu.Unlock()
	x.syncSpool()
	x.mu.Lock()
	return x.waitNode(ctx, n)
}

// Release implements [FileSystem].
func (x *Exclusive) Release(h Handle) {
	x.mu.Lock()
	f := x.files[h]
	delete(x.files, h)
	if f == nil {
		x.mu.Unlock()
		return
	}
	n := f.n
	n.opens--
	if f.writable {
		n.writers--
		x.closed(n)
	}
	if n.opens == 0 {
		n.pressed = false
		for _, p := range n.places { // kept under a hidden name while it was open
			if n.dead() {
				x.ensureWork(p)
			}
		}
		x.cached.trim(x)
	}
	if n.opens == 0 && n.reader != nil {
		x.closeReader(n)
	}
	x.reap(n)
	x.mu.Unlock()
}
