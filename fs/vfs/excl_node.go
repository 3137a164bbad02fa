package vfs

import (
	"path"
	"syscall"
	"time"

	"bundlefs/fs/extent"
)

// xnode is one inode of exclusive mode: what it is here, which is the truth, and
// where it is on the node.
type xnode struct {
	ino    Ino
	attr   Attr
	target string // of a symbolic link; "" if not yet asked

	links  []*dentry // names it has here; none when it was removed
	places []*dentry // names it has on the node; none when it is not there yet

	children map[string]*dentry // of a folder
	complete bool               // children are all there are
	version  uint64             // of a folder: counts what happened in it on the node
	toSend   int                // works: what is to be sent of it, and of its names
	pending  int                // of a folder: children with changes that can still be sent

	uses    uint64 // lookups not yet forgotten by the kernel
	opens   int    // handles
	writers int    // handles that write
	storing int    // writes that are on their way into the spool
	loading bool   // a folder that is being listed

	data *content // of a file that has local data; nil: all is as on the node
	gate          // of actions on it
	w    *work    // what is to be sent; nil when nothing is
	send attrMask // attributes to be sent

	locked   bool // a folder that refused a change, and that is to get another mode
	unlocked bool // and then let us work in it

	pressed    bool   // is to be sent though it is still being written
	moved      bool   // renamed before it was first sent: its name must not appear before its content, or what is in it
	stale      bool   // the node may know better: ask before answering
	made       bool   // found in the journal as made here
	generation uint64 // of the journal that tells of it
	learnt     bool   // the node has changed it since
	sentAs     uint64 // which of all sends was the last of its content or attributes

	fetched *cachedFile // what is kept of its content on the node; nil: nothing
	whole   *wholeFetch // of a small file that is being fetched
	reader  *nodeReader // of its content on the node, while it is open
}

// attrMask says which attributes are to be sent.
type attrMask uint8

const (
	sendMode attrMask = 1 << iota
	sendOwner
	sendTimes
	sendSize
	sendSync // fsync was asked for
)

// content is where a file's bytes are. A byte is local if local covers it: then it
// is in mem, or in the spool if that is nil. Else it is as on the node if it is
// below base, else zero.
type content struct {
	mem     []byte // of a small file: as long as the furthest byte written
	local   extent.Set
	dirty   extent.Set // part of local that the node does not have
	flying  extent.Set // part of local that is on its way
	base    int64
	cut     bool // the node's file must be cut to cutTo first
	cutTo   int64
	spooled bool // has a file in the spool
}

// dentry is one name in a folder, here and on the node.
type dentry struct {
	parent *xnode
	name   string
	local  *xnode // who has the name here; nil: nobody
	remote *xnode // who has it on the node
	doubts int    // changes of it on the node that are in doubt
	gate
	w *work // set while they differ
}

func (n *xnode) isDir() bool     { return n.attr.Mode&TypeMask == TypeDir }
func (n *xnode) isFile() bool    { return n.attr.Mode&TypeMask == TypeRegular }
func (n *xnode) isSymlink() bool { return n.attr.Mode&TypeMask == TypeSymlink }
func (n *xnode) dead() bool      { return n.ino != RootIno && len(n.links) == 0 }

// depth is how many folders lie between the root and n, by its shallowest name; mu is held.
func (n *xnode) depth() int {
	least := -1
	for _, l := range n.links {
		d := 0
		for p := l.parent; p.ino != RootIno && len(p.links) > 0; p = p.links[0].parent {
			d++
		}
		if least < 0 || d < least {
			least = d
		}
	}
	return max(least, 0)
}

// nlink is the link count: of a folder that is known whole, its subfolders count.
func (n *xnode) nlink() uint32 {
	if !n.isDir() {
		return uint32(len(n.links))
	}
	if n.dead() {
		return 0
	}
	if !n.complete {
		return 1 // "not counted", as find and others understand it
	}
	count := uint32(2)
	for _, d := range n.children {
		if d.local != nil && d.local.isDir() {
			count++
		}
	}
	return count
}

// touch sets the times that a change of content or of children sets.
func (n *xnode) touch() {
	now := time.Now().UnixNano()
	n.attr.Mtime, n.attr.Ctime = now, now
}

// localData returns the record of local data, making it of what the node has.
func (n *xnode) localData() *content {
	if n.data == nil {
		n.data = &content{}
		if len(n.places) > 0 {
			n.data.base = int64(n.attr.Size)
		}
	}
	return n.data
}

func (x *Exclusive) makeRoot(a Attr) {
	a.Ino = RootIno
	x.root = &xnode{ino: RootIno, attr: a, uses: 1, children: map[string]*dentry{}}
	x.nodes[RootIno] = x.root
	x.lastIno = RootIno
}

// newNode makes an inode with a fresh number; mu is held.
func (x *Exclusive) newNode(a Attr) *xnode {
	x.lastIno++
	a.Ino = x.lastIno
	n := &xnode{ino: a.Ino, attr: a}
	if n.isDir() {
		n.children = map[string]*dentry{}
	}
	x.nodes[n.ino] = n
	return n
}

// node returns an inode, ESTALE if there is none; mu is held.
func (x *Exclusive) node(ino Ino) (*xnode, error) {
	if n := x.nodes[ino]; n != nil {
		return n, nil
	}
	return nil, syscall.ESTALE
}

// at returns the entry of a name, making an empty one; mu is held.
func (x *Exclusive) at(dir *xnode, name string) *dentry {
	d := dir.children[name]
	if d == nil {
		d = &dentry{parent: dir, name: name}
		dir.children[name] = d
	}
	return d
}

// found returns who has a name here; mu is held.
func (n *xnode) found(name string) *xnode {
	if d := n.children[name]; d != nil {
		return d.local
	}
	return nil
}

// setLocal gives the name to n here, nil to nobody; mu is held.
func (x *Exclusive) setLocal(d *dentry, n *xnode) {
	old := d.local
	if old == n {
		return
	}
	d.local = n
	if old != nil {
		old.links = without(old.links, d)
		old.attr.Ctime = time.Now().UnixNano()
	}
	if n != nil {
		n.links = append(n.links, d)
	}
	if old != nil {
		x.reap(old)
	}
}

// setRemote notes who has the name on the node now; mu is held.
func (x *Exclusive) setRemote(d *dentry, n *xnode) {
	d.parent.version++
	old := d.remote
	if old == n {
		return
	}
	d.remote = n
	if old != nil {
		old.places = without(old.places, d)
	}
	if n != nil {
		n.places = append(n.places, d)
	}
	if old != nil {
		x.reap(old)
	}
}

// tidy drops an entry that says nothing any more; mu is held.
func (x *Exclusive) tidy(d *dentry) {
	if d.local == nil && d.remote == nil && d.w == nil && d.doubts == 0 && !d.gate.busy && d.parent.children[d.name] == d {
		delete(d.parent.children, d.name)
		x.reap(d.parent)
	}
}

// reap drops an inode that has no name here or there, and that nobody uses; mu is held.
func (x *Exclusive) reap(n *xnode) {
	if x.recovering || n.ino == RootIno || len(n.links) > 0 || len(n.places) > 0 || n.uses > 0 || n.opens > 0 || n.w != nil || n.gate.busy || len(n.children) > 0 {
		return
	}
	if x.nodes[n.ino] != n {
		return
	}
	delete(x.nodes, n.ino)
	x.dropData(n)
}

// nothingDirty has nothing more sent of a file's data; mu is held.
func (x *Exclusive) nothingDirty(n *xnode) {
	if n.data != nil {
		x.dirtyBytes -= n.data.dirty.Bytes()
		n.data.dirty.Clear()
	}
}

// dropData forgets a file's local data, which nobody needs any more; mu is held.
func (x *Exclusive) dropData(n *xnode) {
	x.forgetFetched(n)
	if n.data == nil {
		return
	}
	x.dirtyBytes -= n.data.dirty.Bytes() + n.data.flying.Bytes()
	x.cached.drop(n)
	spooled := n.data.spooled
	x.memBytes -= int64(cap(n.data.mem))
	n.data = nil
	if !spooled {
		return
	}
	if x.unsaid[n.ino] { // the journal says that it is needed
		x.left = append(x.left, n.ino)
		return
	}
	if err := x.spool.Remove(uint64(n.ino)); err != nil {
		x.log.Warn("cannot remove spooled data", "error", err)
	}
}

// remotePath is where n is on the node; false if it is not there; mu is held.
func (x *Exclusive) remotePath(n *xnode) (string, bool) {
	if n.ino == RootIno {
		return x.rootDir, true
	}
	if len(n.places) == 0 {
		return "", false
	}
	return x.pathOf(n.places[0])
}

// pathOf is the path of a name on the node, whether it exists or not; mu is held.
func (x *Exclusive) pathOf(d *dentry) (string, bool) {
	dir, ok := x.remotePath(d.parent)
	return path.Join(dir, d.name), ok
}

// localPath is the path of a name in the mount, for messages; a folder that was
// removed here has the name that it has on the node. mu is held.
func (x *Exclusive) localPath(d *dentry) string {
	p := d.name
	for n := d.parent; n.ino != RootIno; {
		names := n.links
		if len(names) == 0 {
			names = n.places
		}
		if len(names) == 0 {
			return "(removed)/" + p
		}
		p = path.Join(names[0].name, p)
		n = names[0].parent
	}
	return p
}

func without(l []*dentry, d *dentry) []*dentry {
	for i, e := range l {
		if e == d {
			return append(l[:i:i], l[i+1:]...)
		}
	}
	return l
}
