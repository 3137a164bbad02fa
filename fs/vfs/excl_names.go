package vfs

import (
	"context"
	"syscall"
)

// folder returns the folder ino with mu held, all its children known. The caller
// unlocks mu, also after an error.
func (x *Exclusive) folder(ctx context.Context, ino Ino) (*xnode, error) {
	return x.folderWithin(ctx, ino, maxEntries)
}

// folderWithin is folder where a listing of the node may have so many entries.
func (x *Exclusive) folderWithin(ctx context.Context, ino Ino, most int) (*xnode, error) {
	x.mu.Lock()
	for {
		n, err := x.node(ino)
		if err != nil {
			return nil, err
		}
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		if n.complete {
			return n, nil
		}
		if n.loading { // by somebody else
			if err := x.waitChange(ctx); err != nil {
				return nil, err
			}
			continue
		}
		n.loading = true
		x.mu.Unlock()
		err = x.load(ctx, n, most)
		x.mu.Lock()
		n.loading = false
		x.changed.Broadcast()
		if err != nil {
			return nil, err
		}
	}
}

// Lookup implements [FileSystem].
func (x *Exclusive) Lookup(ctx context.Context, parent Ino, name string) (Entry, error) {
	if err := looksUp.check(name); err != nil {
		return Entry{}, &Error{"lookup", name, err}
	}
	dir, err := x.folder(ctx, parent)
	defer x.mu.Unlock()
	if err != nil {
		return Entry{}, &Error{"lookup", name, err}
	}
	n := dir.found(name)
	if n == nil {
		return Entry{}, &Error{"lookup", name, syscall.ENOENT}
	}
	if err := x.view.usable(n.attr); err != nil {
		return Entry{}, &Error{"lookup", name, err}
	}
	n.uses++
	return x.entry(n), nil
}

// begin is the start of each call that changes names: the folder, loaded, with mu
// held, which the caller unlocks.
func (x *Exclusive) begin(ctx context.Context, parent Ino, name string, use nameUse) (*xnode, error) {
	dir, err := x.folder(ctx, parent)
	if err != nil {
		return nil, err
	}
	if err := use.check(name); err != nil {
		return nil, err
	}
	if dir.dead() {
		return nil, syscall.ENOENT
	}
	return dir, x.writable()
}

// make makes a new inode under a free name.
func (x *Exclusive) make(ctx context.Context, op string, parent Ino, name string, mode uint32, target string) (*xnode, error) {
	dir, err := x.begin(ctx, parent, name, makes)
	if err == nil && dir.found(name) != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return nil, &Error{op, name, err}
	}
	n := x.newNode(Attr{Mode: mode, UID: x.root.attr.UID, GID: x.root.attr.GID, Size: uint64(len(target))})
	n.touch()
	n.attr.Atime = n.attr.Mtime
	n.target = target
	n.complete = n.isDir()
	n.generation = x.generation
	seq := x.nextSeq()
	d := x.at(dir, name)
	r := &record{Kind: recMake, Seq: seq, Ino: n.ino, Parent: dir.ino, Name: name, Attr: n.attr, Target: target}
	if err := x.note([]*dentry{d}, r); err != nil {
		delete(x.nodes, n.ino)
		x.tidy(d)
		return nil, &Error{op, name, err}
	}
	x.setLocal(d, n)
	dir.touch()
	n.uses++
	switch {
	case n.isFile():
		n.localData()
	case n.isDir():
		n.send = sendMode | sendTimes
	default:
		n.send = sendTimes
	}
	x.changedNode(n, seq)
	x.changedName(d, seq)
	if !n.isFile() {
		x.queue(n.w) // a file's content is sent with its name
	}
	return n, nil
}

// Mkdir implements [FileSystem].
func (x *Exclusive) Mkdir(ctx context.Context, parent Ino, name string, mode uint32) (Entry, error) {
	n, err := x.make(ctx, "mkdir", parent, name, TypeDir|mode, "")
	defer x.mu.Unlock()
	if err != nil {
		return Entry{}, err
	}
	return x.entry(n), nil
}

// Symlink implements [FileSystem].
func (x *Exclusive) Symlink(ctx context.Context, parent Ino, name, target string) (Entry, error) {
	n, err := x.make(ctx, "symlink", parent, name, TypeSymlink|0o777, target)
	defer x.mu.Unlock()
	if err != nil {
		return Entry{}, err
	}
	return x.entry(n), nil
}

// Link implements [FileSystem].
func (x *Exclusive) Link(ctx context.Context, ino, parent Ino, name string) (Entry, error) {
	dir, err := x.begin(ctx, parent, name, makes)
	defer x.mu.Unlock()
	var n *xnode
	if err == nil {
		n, err = x.node(ino)
	}
	switch {
	case err != nil:
	case x.view.NoHardlink:
		err = syscall.ENOSYS
	case n.isDir():
		err = syscall.EPERM
	case n.dead():
		err = syscall.ENOENT
	case dir.found(name) != nil:
		err = syscall.EEXIST
	}
	if err != nil {
		return Entry{}, &Error{"link", name, err}
	}
	seq := x.nextSeq()
	d := x.at(dir, name)
	about := append([]*dentry{d}, n.places...)
	if err := x.note(about, &record{Kind: recLink, Seq: seq, Ino: ino, Parent: parent, Name: name}); err != nil {
		x.tidy(d)
		return Entry{}, &Error{"link", name, err}
	}
	x.setLocal(d, n)
	n.touchCtime()
	dir.touch()
	n.uses++
	n.moved = n.moved || len(n.places) == 0 && !n.isSymlink()
	x.changedName(d, seq)
	return x.entry(n), nil
}

// Unlink implements [FileSystem].
func (x *Exclusive) Unlink(ctx context.Context, parent Ino, name string) error {
	return x.remove(ctx, "unlink", parent, name, func(n *xnode) error {
		if n.isDir() {
			return syscall.EISDIR
		}
		return nil
	})
}

// Rmdir implements [FileSystem].
func (x *Exclusive) Rmdir(ctx context.Context, parent Ino, name string) error {
	if err := x.loadChild(ctx, parent, name); err != nil {
		return &Error{"rmdir", name, err}
	}
	return x.remove(ctx, "rmdir", parent, name, func(n *xnode) error {
		switch {
		case !n.isDir():
			return syscall.ENOTDIR
		case !n.complete:
			return syscall.EBUSY // dropped again since loadChild; rare
		case !n.empty():
			return syscall.ENOTEMPTY
		}
		return nil
	})
}

// loadChild loads the folder that a name is, if it is one.
func (x *Exclusive) loadChild(ctx context.Context, parent Ino, name string) error {
	dir, err := x.folder(ctx, parent)
	var n *xnode
	if err == nil {
		n = dir.found(name)
	}
	x.mu.Unlock()
	if err != nil || n == nil || !n.isDir() {
		return err
	}
	_, err = x.folder(ctx, n.ino)
	x.mu.Unlock()
	return err
}

func (n *xnode) empty() bool {
	for _, d := range n.children {
		if d.local != nil {
			return false
		}
	}
	return true
}

func (x *Exclusive) remove(ctx context.Context, op string, parent Ino, name string, allowed func(*xnode) error) error {
	dir, err := x.begin(ctx, parent, name, removes)
	defer x.mu.Unlock()
	var n *xnode
	if err == nil {
		if n = dir.found(name); n == nil {
			err = syscall.ENOENT
		} else {
			err = allowed(n)
		}
	}
	if err != nil {
		return &Error{op, name, err}
	}
	seq := x.nextSeq()
	d := dir.children[name]
	if err := x.note(append([]*dentry{d}, n.places...), &record{Kind: recUnlink, Seq: seq, Parent: parent, Name: name}); err != nil {
		return &Error{op, name, err}
	}
	x.setLocal(d, nil)
	dir.touch()
	x.changedName(d, seq)
	x.abandoned(n, seq)
	return nil
}

// abandoned has an inode removed from the node that has just lost its last name
// here; mu is held.
func (x *Exclusive) abandoned(n *xnode, seq uint64) {
	if !n.dead() {
		return
	}
	for _, p := range n.places {
		if p.local != n {
			x.changedName(p, seq)
		}
	}
	if n.w != nil {
		x.retry(n.w) // if it was refused
		x.queue(n.w) // which finds that nothing is to be sent
	}
}

// Rename implements [FileSystem].
func (x *Exclusive) Rename(ctx context.Context, oldParent Ino, oldName string, newParent Ino, newName string, mode RenameMode) error {
	err := removes.check(oldName)
	if err == nil {
		err = x.loadChild(ctx, newParent, newName) // a folder that is replaced must be empty
	}
	if err == nil {
		err = x.rename(ctx, oldParent, oldName, newParent, newName, mode)
	}
	if err != nil {
		return &Error{"rename", oldName + " to " + newName, err}
	}
	return nil
}

func (x *Exclusive) rename(ctx context.Context, oldParent Ino, oldName string, newParent Ino, newName string, mode RenameMode) error {
	_, err := x.folder(ctx, oldParent)
	x.mu.Unlock()
	if err != nil {
		return err
	}
	to, err := x.begin(ctx, newParent, newName, makes)
	defer x.mu.Unlock()
	if err != nil {
		return err
	}
	from, err := x.node(oldParent)
	if err != nil {
		return err
	}
	n := from.found(oldName)
	if n == nil {
		return syscall.ENOENT
	}
	for p := to; n.isDir() && p.ino != RootIno && len(p.links) > 0; p = p.links[0].parent {
		if p == n {
			return syscall.EINVAL
		}
	}
	over := to.found(newName)
	switch {
	case over == nil:
	case mode == RenameNoReplace:
		return syscall.EEXIST
	case over == n:
		return nil // two names of one file: rename(2) does nothing
	case n.isDir() && !over.isDir():
		return syscall.ENOTDIR
	case !n.isDir() && over.isDir():
		return syscall.EISDIR
	case over.isDir() && (!over.complete || !over.empty()):
		return syscall.ENOTEMPTY
	}
	seq := x.nextSeq()
	d1, d2 := from.children[oldName], x.at(to, newName)
	about := append([]*dentry{d1, d2}, n.places...)
	if over != nil {
		about = append(about, over.places...)
	}
	r := &record{Kind: recRename, Seq: seq, Parent: oldParent, Name: oldName, Parent2: newParent, Name2: newName}
	if err := x.note(about, r); err != nil {
		x.tidy(d2)
		return err
	}
	x.setLocal(d2, n)
	x.setLocal(d1, nil)
	n.touchCtime()
	from.touch()
	to.touch()
	n.moved = n.moved || len(n.places) == 0 && !n.isSymlink()
	x.changedName(d2, seq)
	x.changedName(d1, seq)
	if over != nil {
		x.abandoned(over, seq)
	}
	return nil
}

// Readlink implements [FileSystem].
func (x *Exclusive) Readlink(ctx context.Context, ino Ino) (string, error) {
	x.mu.Lock()
	n, err := x.node(ino)
	if err == nil && !n.isSymlink() {
		err = syscall.EINVAL
	}
	target := ""
	if err == nil {
		target = n.target
	}
	x.mu.Unlock()
	if err == nil && target == "" {
		err = x.atPath(ctx, n, func(p string) (err error) {
			target, err = readlink(ctx, x.link, p)
			return err
		})
	}
	if err == nil {
		x.mu.Lock()
		if n.target == "" && len(target) < maxPath {
			n.target = target
		}
		target, err = x.view.target(target, x.rootDir, n.depth())
		x.mu.Unlock()
	}
	if err != nil {
		return "", &Error{"readlink", "", err}
	}
	return target, nil
}
