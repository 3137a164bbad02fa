package vfs

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestContained(t *testing.T) {
	for _, c := range []struct {
		target string
		depth  int
		want   bool
	}{
		{"a", 0, true},
		{"a/b/c", 0, true},
		{".", 0, true},
		{"./a", 0, true},
		{"a/.", 0, true},
		{"a//b/", 0, true},
		{"...", 0, true},
		{"..a/b..", 0, true},
		{"..", 1, true},
		{"../a", 1, true},
		{"../../a", 2, true},
		{"./.././../a", 2, true},
		{"..//..//a", 2, true},
		{"..", 0, false},
		{"../a", 0, false},
		{"../../a", 1, false},
		{"./../a", 0, false},
		{".//../", 0, false},
		{"a/..", 1, false},
		{"a/../..", 2, false},
		{"../a/../b", 5, false},
		{"a/./../b", 5, false},
		{"/", 5, false},
		{"/etc/passwd", 5, false},
		{"//etc", 5, false},
	} {
		if got := contained(c.target, c.depth); got != c.want {
			t.Errorf("%q at depth %d: %v, want %v", c.target, c.depth, got, c.want)
		}
	}
}

func TestRelativeTarget(t *testing.T) {
	for _, c := range []struct {
		target, root string
		depth        int
		want         string
	}{
		{"/home/u/x/y", "/home/u", 0, "x/y"},
		{"/home/u/x/y", "/home/u", 2, "../../x/y"},
		{"/home/u", "/home/u", 0, "."},
		{"/home/u/", "/home/u", 1, ".."},
		{"/etc/passwd", "/", 1, "../etc/passwd"},
		{"/home/u2/x", "/home/u", 1, "/home/u2/x"},
		{"/home/u/../v", "/home/u", 1, "/home/u/../v"},
		{"/home/u/x/..", "/home/u", 1, "/home/u/x/.."},
		{"x", "/home/u", 1, "x"},
		{"/home", "/home/u", 1, "/home"},
	} {
		if got := relativeTarget(c.target, c.root, c.depth); got != c.want {
			t.Errorf("%q in %q at depth %d: %q, want %q", c.target, c.root, c.depth, got, c.want)
		}
	}
}

func TestTargetOfLink(t *testing.T) {
	for _, c := range []struct {
		view   ViewOptions
		target string
		want   string
		err    error
	}{
		{ViewOptions{}, "a", "a", nil},
		{ViewOptions{}, "../a", "../a", nil},
		{ViewOptions{}, "../../a", "", syscall.EPERM},
		{ViewOptions{}, "/r/a", "", syscall.EPERM},
		{ViewOptions{NoContain: true}, "/etc", "/etc", nil},
		{ViewOptions{NoContain: true}, "../../a", "../../a", nil},
		{ViewOptions{Transform: true}, "/r/a", "../a", nil},
		{ViewOptions{Transform: true}, "/r/a/../..", "", syscall.EPERM},
		{ViewOptions{Transform: true}, "/etc", "", syscall.EPERM},
		{ViewOptions{Transform: true, NoContain: true}, "/etc", "/etc", nil},
		{ViewOptions{NoContain: true}, "", "", syscall.EIO},
		{ViewOptions{NoContain: true}, "a\x00b", "", syscall.EIO},
		{ViewOptions{NoContain: true}, strings.Repeat("a", maxPath), "", syscall.EIO},
	} {
		v := view{ViewOptions: c.view}
		got, err := v.target(c.target, "/r", 1)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.20q with %+v: %q, %v, want %q, %v", c.target, c.view, got, err, c.want, c.err)
		}
	}
}

// A link with several names is judged by the shallowest, and by where it is now.
func TestDepthOfLink(t *testing.T) {
	tr := newTree("/r")
	root := tr.nodes[RootIno]
	a := tr.remember(root, "a", TypeDir)
	b := tr.remember(a, "b", TypeDir)
	l := tr.remember(b, "l", TypeSymlink)
	if d := tr.depth(l); d != 2 {
		t.Errorf("depth %d, want 2", d)
	}
	tr.link(l, a, "m")
	if d := tr.depth(l); d != 1 {
		t.Errorf("depth %d with a second name, want 1", d)
	}
	tr.unlink(a, "m")
	tr.rename(a, "b", root, "b")
	if d := tr.depth(l); d != 1 {
		t.Errorf("depth %d after its folder moved up, want 1", d)
	}
	tr.unlink(b, "l")
	if d := tr.depth(l); d != 0 {
		t.Errorf("depth %d without a name, want 0", d)
	}
}

func TestIDTable(t *testing.T) {
	const strict, loose = true, false
	remote := map[uint32]uint32{1000: 5, 1001: 5, 0: 7}
	for _, c := range []struct {
		table       idTable
		there, here uint32
	}{
		{idTable{}, 5, 5},
		{newIDTable(nil, strict), 5, 5},
		{newIDTable(remote, loose), 5, 1000},
		{newIDTable(remote, loose), 7, 0},
		{newIDTable(remote, loose), 6, 6},
		{newIDTable(remote, strict), 5, 1000},
		{newIDTable(remote, strict), 6, noID},
	} {
		if got := c.table.here(c.there); got != c.here {
			t.Errorf("%+v: %d of the node is %d, want %d", c.table, c.there, got, c.here)
		}
		if c.here == noID {
			continue
		}
		if got, err := c.table.there(c.here); err != nil || got != c.there {
			t.Errorf("%+v: %d is %d on the node, %v, want %d", c.table, c.here, got, err, c.there)
		}
	}
	if id, err := newIDTable(remote, strict).there(6); !errors.Is(err, syscall.EPERM) {
		t.Errorf("one that is not in the table is %d, %v", id, err)
	}
}
