package vfs

import "time"

// toldState is what the kernel was told of a file's attributes, which it believes for a time.
// Answers that are on their way at the same moment may arrive in any order, so that for as long
// it is not known which of them it believes.
type toldState struct {
	Attr
	mixed time.Time // when it was told others last
}

// told takes note of attributes with which the kernel is answered.
func (t *tree) told(a Attr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[a.Ino]; n != nil && n.mode != TypeDir {
		n.told.note(a)
	}
}

func (s *toldState) note(a Attr) {
	a.Atime, a.Nlink = 0, 0 // reading a file makes it no other one
	if s.Attr != a {
		s.mixed = time.Now()
	}
	s.Attr = a
}

// toldAtOpen takes note of the attributes that the node told when n was opened, and reports whether the
// kernel may believe others: it has to forget them before it gets the answer, and asks then. valid is
// for how long it believes what it is told.
func (t *tree) toldAtOpen(n *node, a Attr, valid time.Duration) (others bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := n.told
	n.told.note(a)
	others = n.told.Attr != before.Attr || time.Since(before.mixed) < valid
	if others {
		n.told.mixed = time.Time{} // what is on its way to the kernel is not believed after that
	}
	return others
}
