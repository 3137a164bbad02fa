package vfs

import (
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
)

// tree holds the inodes that are in use and the names under which they are
// known. It sends nothing; every method is short.
type tree struct {
	mu    sync.Mutex // guards all below and the fields of each node so marked
	nodes map[Ino]*node
	last  Ino
	root  string     // path of the root folder on the node
	cache *nameCache // is told of what changes here; nil: nobody is
	clock uint64     // counts the changes made through this mount

	wonders wonders
}

// node is one inode. Its number and type never change: a file that is replaced
// by a folder is another node.
type node struct {
	ino  Ino
	mode uint32 // type bits

	// names is held by who sends the path of a child of this folder (one unit)
	// or changes which children it has (all units).
	names *semaphore.Weighted

	// Guarded by tree.mu:
	links    []link           // names it has; none when it was removed
	children map[string]*node // of a folder: those that are known
	uses     uint64           // lookups not yet forgotten
	open     []*sharedFile    // handles on it
	file     fileState        // of a file
	seen     Attr             // attributes when the node last told them
	told     toldState        // of a file
	size     int64            // in these, or in a listing since
	seenAs   uint64           // counts how often size or time were others than before
	changed  uint64           // tree.clock when its attributes or names were last changed
}

// link is one name of a node.
type link struct {
	parent *node
	name   string
}

func newTree(root string) *tree {
	t := &tree{nodes: map[Ino]*node{}, last: RootIno, root: root, wonders: wonders{map[*node]struct{}{}, make(chan struct{}, 1)}}
	r := &node{ino: RootIno, mode: TypeDir, uses: 1, names: semaphore.NewWeighted(allNames), children: map[string]*node{}}
	t.nodes[RootIno] = r
	return t
}

// saw keeps the attributes of n for when it has lost its name.
func (t *tree) saw(n *node, a Attr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.seen.Size != a.Size || n.seen.Mtime != a.Mtime {
		n.seenAs++
	}
	i := &n.file.identity
	if len(n.open) == 0 {
		i.wrote = false
	}
	i.known, i.size, i.mtime = true, int64(min(a.Size, 1<<63-1)), a.Mtime/int64(time.Second)
	n.seen, n.size = a, int64(min(a.Size, 1<<62))
	t.newsLocked(n, a)
}

// removed returns the last attributes of a node that has no name any more.
func (t *tree) removed(n *node) (Attr, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := n.seen
	a.Nlink = 0
	return a, len(n.links) == 0 && n.ino != RootIno && a.Ino == n.ino
}

// get returns the node with a number, ESTALE if there is none.
func (t *tree) get(ino Ino) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[ino]; n != nil {
		return n, nil
	}
	return nil, syscall.ESTALE
}

// path returns the path of n on the node, by its first name; false if it has none.
func (t *tree) path(n *node) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pathLocked(n)
}

func (t *tree) pathLocked(n *node) (string, bool) {
	var names []string
	for n.ino != RootIno {
		if len(n.links) == 0 {
			return "", false
		}
		names = append(names, n.links[0].name)
		n = n.links[0].parent
	}
	p := t.root
	for i := len(names) - 1; i >= 0; i-- {
		p = path.Join(p, names[i])
	}
	return p, true
}

// depth is how many folders lie between the root and n, by its shallowest name.
func (t *tree) depth(n *node) int {
	t.mu.Lock()
	defer t.mu.Unlock()
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

// parent is the folder of n's first name, nil if it has none.
func (t *tree) parent(n *node) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(n.links) == 0 {
		return nil
	}
	return n.links[0].parent
}

// child returns the known node of a name, or nil.
func (t *tree) child(parent *node, name string) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return parent.children[name]
}

// remember gives the name a node of the type in mode, the one it has if that is
// of the same type, and counts one use of it.
func (t *tree) remember(parent *node, name string, mode uint32) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.rememberLocked(parent, name, mode)
	t.tell(parent, name, func(p string) { t.cache.exists(p, mode) })
	return n
}

func (t *tree) rememberLocked(parent *node, name string, mode uint32) *node {
	n := parent.children[name]
	if n != nil && n.mode != mode&TypeMask {
		t.unlinkLocked(parent, name)
		n = nil
	}
	if n == nil {
		t.last++
		n = &node{ino: t.last, mode: mode & TypeMask}
		if n.mode == TypeDir {
			n.names = semaphore.NewWeighted(allNames)
			n.children = map[string]*node{}
		}
		t.nodes[n.ino] = n
		t.linkLocked(n, parent, name)
	}
	n.uses++
	return n
}

// anotherLocked gives n one more name and counts one use.
func (t *tree) anotherLocked(n, parent *node, name string) {
	t.unlinkLocked(parent, name)
	t.linkLocked(n, parent, name)
	t.tell(parent, name, func(p string) { t.cache.exists(p, n.mode) })
	t.touchLocked(n, parent)
	n.uses++
}

// unlink takes a name away. The node lives on while it is in use.
func (t *tree) unlink(parent *node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unlinkLocked(parent, name)
}

// renameLocked moves a name over whatever had the new one.
func (t *tree) renameLocked(from *node, name string, to *node, newName string) {
	n, over := from.children[name], to.children[newName]
	if n != nil && over == n { // two names of one file: rename(2) does nothing
		return
	}
	t.touchLocked(from, to)
	t.tell(from, name, func(oldPath string) {
		t.tell(to, newName, func(newPath string) { t.cache.renamed(oldPath, newPath, mayBeDir(n)) })
	})
	if over != nil {
		t.dropLinkLocked(over, to, newName)
	}
	if n != nil { // else it was never looked up: nothing is known of it
		t.linkLocked(n, to, newName)
		t.dropLinkLocked(n, from, name)
		t.touchLocked(n)
	}
	if over != nil {
		t.reapLocked(over)
		t.reapLocked(to)
	}
	t.reapLocked(from)
}

// within reports whether n is dir or lies below it.
func (t *tree) within(n, dir *node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n != dir {
		if len(n.links) == 0 {
			return false
		}
		n = n.links[0].parent
	}
	return true
}

// otherName is a name of n beside the one given, if it has several.
func (t *tree) otherName(parent *node, name string) (p string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := parent.children[name]
	if n == nil {
		return "", false
	}
	for _, l := range n.links {
		if l.parent != parent || l.name != name {
			dir, ok := t.pathLocked(l.parent)
			return path.Join(dir, l.name), ok
		}
	}
	return "", false
}

func (t *tree) linkLocked(n, parent *node, name string) {
	n.links = append(n.links, link{parent, name})
	parent.children[name] = n
}

func (t *tree) unlinkLocked(parent *node, name string) {
	t.tell(parent, name, t.cache.removed)
	n := parent.children[name]
	if n == nil {
		return
	}
	t.touchLocked(n, parent)
	t.dropLinkLocked(n, parent, name)
	t.reapLocked(n)
	t.reapLocked(parent)
}

// dropLinkLocked takes a name away from n, unless it is another's by now.
func (t *tree) dropLinkLocked(n, parent *node, name string) {
	if parent.children[name] == n {
		delete(parent.children, name)
	}
	for i, l := range n.links {
		if l.parent == parent && l.name == name {
			n.links = slices.Delete(n.links, i, i+1)
			return
		}
	}
}

// forget takes back uses of a node and drops it when nothing needs it.
func (t *tree) forget(ino Ino, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[ino]
	if n == nil {
		return
	}
	n.uses -= min(count, n.uses)
	t.reapLocked(n)
}

// reapLocked drops n, and its parents, as far as nobody uses them: the kernel
// may forget a folder before its children.
func (t *tree) reapLocked(n *node) {
	for n.ino != RootIno && n.uses == 0 && len(n.children) == 0 && len(n.open) == 0 {
		if t.nodes[n.ino] != n {
			return
		}
		delete(t.nodes, n.ino)
		links := n.links
		n.links = nil
		if len(links) == 0 {
			return
		}
		for _, l := range links {
			delete(l.parent.children, l.name)
		}
		for _, l := range links[1:] {
			t.reapLocked(l.parent)
		}
		n = links[0].parent
	}
}

// nlink is the link count to show: what is known of through this mount.
func (t *tree) nlink(n *node) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.mode == TypeDir && len(n.links) > 0 || n.ino == RootIno {
		return 1 // as file systems do which do not count a folder's subfolders
	}
	return uint32(len(n.links))
}

func (t *tree) addOpen(n *node, f *sharedFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.open = append(n.open, f)
}

func (t *tree) dropOpen(n *node, f *sharedFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(n.open, f); i >= 0 {
		n.open = slices.Delete(n.open, i, i+1)
	}
	if f.writable {
		t.staleLocked(n)
	}
	t.reapLocked(n)
}

// anyOpen returns a handle on n that the node still knows, a writable one if that
// is asked for.
func (t *tree) anyOpen(n *node, writable bool) *sharedFile {
	return t.openWith(n, func(f *sharedFile) bool { return !writable || f.writable })
}

// openWith returns a handle on n that the node still knows and that is wanted.
func (t *tree) openWith(n *node, wanted func(*sharedFile) bool) *sharedFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range n.open {
		if f.usable() && wanted(f) {
			return f
		}
	}
	return nil
}

func (t *tree) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.nodes)
}
