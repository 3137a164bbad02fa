package vfs

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
func (t *tree) rememberSince(parent *node, name string, mode uint32, moment uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parent.changed > moment {
		return nil
	}
	if n := parent.children[name]; n != nil && (n.changed > moment || n.file.pending > 0) {
		return nil
	}
	return t.rememberLocked(parent, name, mode)
}
