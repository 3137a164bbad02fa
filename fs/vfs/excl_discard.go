package vfs

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// Discard gives up the refused changes of the file or folder at path, relative to
// the root, and of all below it: there is again what the node has. It returns how
// many changes there were. What was changed since and is not refused stays; if a name
// that must be given back is another's by now, that is an error, unless all is given up.
func (x *Exclusive) Discard(path string) (int, error) {
	path = strings.Trim(path, "/")
	all := path == "" || path == "."
	x.mu.Lock()
	var works []*work
	for _, w := range x.refusedWorks() {
		if p := x.pathOfWork(w); all || p == path || strings.HasPrefix(p, path+"/") {
			works = append(works, w)
		}
	}
	var told stale
	count := 0
	var err error
	for _, w := range works {
		if err = x.discard(w, all, &told); err != nil {
			break
		}
		count++
	}
	notify := x.notifier
	x.mu.Unlock()
	told.tell(notify)
	if err == nil && len(works) == 0 {
		err = syscall.ENOENT
	}
	if err != nil {
		return count, &Error{"discard", path, err}
	}
	return count, nil
}

// stale is what the kernel must be told of: names that are another's or nobody's by
// now, and inodes whose content or attributes are not what they were.
type stale struct {
	names  []staleName
	inodes []Ino
}

type staleName struct {
	parent Ino
	name   string
}

// tell tells the kernel, without a lock held: it may be waiting for an answer of ours.
func (s *stale) tell(notify Notifier) {
	if notify == nil {
		return
	}
	for _, e := range s.names {
		notify.InvalidateEntry(e.parent, e.name)
	}
	for _, ino := range s.inodes {
		notify.InvalidateInode(ino)
	}
}

// discard gives up one refused work, if it still is one; mu is held, and let go while
// data of its file is on its way into the spool. The journal is told first: if it
// cannot be, nothing is given up.
func (x *Exclusive) discard(w *work, all bool, told *stale) error {
	for w.refusal != nil {
		u := undo{x: x, all: all, to: map[*dentry]*xnode{}}
		var err error
		if w.n != nil {
			u.content = []*xnode{w.n}
		} else {
			err = u.back(w.d, true)
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(u.content, func(n *xnode) bool { return n.storing > 0 }) {
			x.changed.Wait()
			continue
		}
		if err := u.note(); err != nil {
			return err
		}
		u.do(told)
	}
	return nil
}

// undo is what giving up a refused change does: each of some names belongs again to
// who has it on the node. It is put together first, and done when the journal has it.
type undo struct {
	x       *Exclusive
	all     bool // what has taken a name that is given back goes too
	order   []*dentry
	to      map[*dentry]*xnode // their names on the node's side
	content []*xnode           // inodes whose content and attributes are again as on the node
}

// local is who will have the name d here.
func (u *undo) local(d *dentry) *xnode {
	if n, ok := u.to[d]; ok {
		return n
	}
	return d.local
}

// nameOf is a name that n will have here, nil if there is none.
func (u *undo) nameOf(n *xnode) *dentry {
	for _, d := range n.links {
		if u.local(d) == n {
			return d
		}
	}
	for _, d := range n.places {
		if u.local(d) == n {
			return d
		}
	}
	return nil
}

// back gives the name d to who has it on the node. asked says that who has it here may
// go for good, if it has no name on the node.
func (u *undo) back(d *dentry, asked bool) error {
	if _, done := u.to[d]; done {
		return nil
	}
	mine, theirs := d.local, d.remote
	u.to[d] = theirs
	u.order = append(u.order, d)
	if mine != nil && mine != theirs {
		if err := u.displace(d, mine, asked); err != nil {
			return err
		}
	}
	if theirs == nil || mine == theirs {
		return nil
	}
	if theirs.dead() {
		u.content = append(u.content, theirs)
	}
	if theirs.isDir() {
		for _, l := range theirs.links { // it was to be moved: it stays where it is
			if err := u.back(l, false); err != nil {
				return err
			}
		}
	}
	return u.reach(d.parent)
}

// displace sees to who loses the name d here: what is on the node goes back to its
// names there, and what is below a folder that never came to be goes with it.
func (u *undo) displace(d *dentry, mine *xnode, asked bool) error {
	if mine.isDir() && len(mine.places) == 0 {
		for _, c := range mine.children {
			if c.local == nil {
				continue
			}
			if err := u.back(c, asked); err != nil {
				return err
			}
		}
	}
	for _, free := range []bool{true, false} {
		for _, p := range slices.Clone(mine.places) {
			if isAside(p.name) || free && u.local(p) != nil || !free && u.nameOf(mine) != nil {
				continue
			}
			if err := u.back(p, false); err != nil {
				return err
			}
		}
	}
	switch {
	case u.nameOf(mine) != nil:
		return nil
	case slices.ContainsFunc(mine.places, func(p *dentry) bool { return isParked(p.name) }):
		return fmt.Errorf("%w: on the node %s has no other name: mend what refuses it, or rename it", syscall.EBUSY, u.x.localPath(d))
	case !asked && !u.all:
		return fmt.Errorf("%w: %s is another file by now, and not on the node: move it away first", syscall.EEXIST, u.x.localPath(d))
	}
	return nil
}

// reach sees to it that a folder can be reached from the root: one that was removed
// here comes back.
func (u *undo) reach(dir *xnode) error {
	seen := map[*xnode]bool{}
	for dir.ino != RootIno {
		d := u.nameOf(dir)
		if d == nil {
			if len(dir.places) == 0 || isAside(dir.places[0].name) {
				return fmt.Errorf("%w: its folder is on its way", syscall.EBUSY)
			}
			return u.back(dir.places[0], false)
		}
		if _, done := u.to[d]; seen[dir] && !done { // it was moved into what was in it
			return u.back(d, false)
		}
		seen[dir] = true
		dir = d.parent
	}
	return nil
}

// note writes it to the journal, all or nothing; mu is held.
func (u *undo) note() error {
	x := u.x
	about := u.order
	var records []*record
	for _, d := range u.order {
		if d.local != nil && d.local != u.to[d] {
			records = append(records, &record{Kind: recUnlink, Seq: x.nextSeq(), Parent: d.parent.ino, Name: d.name})
		}
	}
	// Those after these, so that no folder is in itself in between.
	for _, d := range u.order {
		if n := u.to[d]; n != nil && n != d.local {
			records = append(records, &record{Kind: recLink, Seq: x.nextSeq(), Ino: n.ino, Parent: d.parent.ino, Name: d.name})
		}
	}
	for _, n := range u.content {
		about = append(about, n.places...)
		records = append(records, &record{Kind: recSent, Ino: n.ino, Seq: x.seq})
	}
	return x.note(about, records...)
}

// do does it; mu is held.
func (u *undo) do(told *stale) {
	x := u.x
	seq := x.nextSeq()
	var lost []*xnode
	for _, d := range u.order {
		if n := d.local; n != nil && n != u.to[d] {
			lost = append(lost, n)
			x.setLocal(d, nil)
		}
	}
	for _, d := range u.order {
		x.setLocal(d, u.to[d])
		d.parent.touch()
		told.names = append(told.names, staleName{d.parent.ino, d.name})
		told.inodes = append(told.inodes, d.parent.ino)
	}
	for _, d := range u.order {
		x.changedName(d, seq)
	}
	for _, n := range lost {
		if x.abandoned(n, seq); n.dead() {
			x.nothingDirty(n)
			if n.send = 0; n.w != nil {
				x.settle(n.w)
			}
			told.inodes = append(told.inodes, n.ino)
		}
	}
	for _, n := range u.content {
		if n.send = 0; n.w != nil {
			x.settle(n.w)
		}
		switch {
		case n.isFile():
			x.dropData(n)
		case n.isDir():
			n.complete = false
		}
		n.stale = true
		told.inodes = append(told.inodes, n.ino)
	}
}
