package vfs

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"syscall"
)

// xdir is an open folder: a listing taken at one moment.
type xdir struct {
	n *xnode

	mu      sync.Mutex // guards what follows
	read    bool
	entries []DirEntry
}

// OpenDir implements [FileSystem].
func (x *Exclusive) OpenDir(ctx context.Context, ino Ino) (Opened, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, err := x.node(ino)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return Opened{}, &Error{"opendir", "", err}
	}
	x.lastHandle++
	x.dirs[x.lastHandle] = &xdir{n: n}
	return Opened{Handle: x.lastHandle}, nil
}

func (x *Exclusive) dir(h Handle) *xdir {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dirs[h]
}

// ReadDir implements [FileSystem].
func (x *Exclusive) ReadDir(ctx context.Context, h Handle, again bool) ([]DirEntry, error) {
	d := x.dir(h)
	if d == nil {
		return nil, &Error{"readdir", "", syscall.EBADF}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read && !again {
		return d.entries, nil
	}
	n, err := x.folder(ctx, d.n.ino)
	defer x.mu.Unlock()
	if err != nil {
		return nil, &Error{"readdir", d.n.name(), err}
	}
	x.listAhead(n)
	d.entries = make([]DirEntry, 0, len(n.children))
	for name, c := range n.children {
		if c.local != nil {
			a := c.local.attr
			a.Nlink = c.local.nlink()
			d.entries = append(d.entries, DirEntry{Name: name, Attr: a})
		}
	}
	slices.SortFunc(d.entries, func(a, b DirEntry) int { return cmp.Compare(a.Name, b.Name) })
	d.read = true
	return d.entries, nil
}

// Instantiate implements [FileSystem].
func (x *Exclusive) Instantiate(h Handle, e DirEntry) (Entry, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.dirs[h]
	if d == nil {
		return Entry{}, false
	}
	n := d.n.found(e.Name)
	if n == nil || n.ino != e.Attr.Ino || x.view.usable(n.attr) != nil { // changed since the listing
		return Entry{}, false
	}
	n.uses++
	return x.entry(n), true
}

// ReleaseDir implements [FileSystem].
func (x *Exclusive) ReleaseDir(h Handle) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.dirs, h)
}
