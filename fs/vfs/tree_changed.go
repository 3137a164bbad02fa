package vfs

import (
	"path"

	"bundlefs/internal/sftpwire"
)

// touch notes that nodes were changed through this mount: what was asked of the
// node before is not true of them any more.
func (t *tree) touch(nodes ...*node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touchLocked(nodes...)
}

func (t *tree) touchLocked(nodes ...*node) {
	t.clock++
	for _, n := range nodes {
		n.changed = t.clock
		t.staleLocked(n)
	}
}

// staleLocked tells the cache that a node's attributes were changed.
func (t *tree) staleLocked(n *node) {
	if t.cache == nil {
		return
	}
	for _, l := range n.links {
		t.tell(l.parent, l.name, t.cache.stale)
	}
	if n.ino == RootIno {
		t.cache.stale(t.root)
	}
}

// tell tells the cache something about the path of a name; mu is held.
func (t *tree) tell(parent *node, name string, what func(p string)) {
	if t.cache == nil {
		return
	}
	if dir, ok := t.pathLocked(parent); ok {
		what(path.Join(dir, name))
	}
}

// gone takes a name away of which the node says that there is none. Nothing was
// changed here: who lists the folder meanwhile knows as much.
func (t *tree) gone(parent *node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tell(parent, name, t.cache.gone)
	if n := parent.children[name]; n != nil {
		t.dropLinkLocked(n, parent, name)
		t.reapLocked(n)
		t.reapLocked(parent)
	}
}

// now is the moment to compare changes with.
func (t *tree) now() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clock
}

// rememberSince does as remember, unless the folder's names or what is known
// under this one were changed since the moment.
func (t *tree) rememberSince(parent *node, name string, a Attr, moment uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parent.changed > moment {
		return nil
	}
	if n := parent.children[name]; n != nil && (n.changed > moment || n.file.pending > 0) {
		return nil
	}
	n := t.rememberLocked(parent, name, a.Mode)
	n.size = int64(min(a.Size, 1<<62))
	return n
}

// changedTo is touch for a change of n's attributes after which the node told those
// under the given name, in answer to a question asked before. They are remembered
// unless something else was changed meanwhile.
func (t *tree) changedTo(n *node, f *fetch, name string, st *sftpwire.Stat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := !t.cache.wasChanged(f, name)
	t.touchLocked(n)
	if alone {
		t.toldLocked(f, name, st)
	}
}

// toldLocked tells the cache the answer to a question that a change made void of which it
// is known that the answer has it.
func (t *tree) toldLocked(f *fetch, name string, st *sftpwire.Stat) {
	now := t.cache.begin(f.dir)
	now.asked = f.asked
	t.cache.put(now, name, st)
	t.cache.end(now)
}
