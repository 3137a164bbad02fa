package vfs

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"bundlefs/fs/spool"
)

// FuzzRecord decodes whatever bytes; what is a record is the same when it is
// encoded and decoded again.
func FuzzRecord(f *testing.F) {
	for _, r := range []record{
		{Kind: recBase, Ino: 7, Parent: 1, Name: "old", Attr: Attr{Mode: TypeRegular | 0o644, Size: 12, Mtime: 1e18}},
		{Kind: recMake, Seq: 3, Ino: 8, Parent: 1, Name: "link", Attr: Attr{Mode: TypeSymlink | 0o777, Size: 3}, Target: "old"},
		{Kind: recRename, Seq: 4, Parent: 1, Name: "a", Parent2: 8, Name2: "b"},
		{Kind: recWrite, Seq: 5, Ino: 7, Off: 3, Len: 4, Attr: Attr{Mode: TypeRegular, Size: 7}, Data: []byte("data")},
		{Kind: recAttr, Seq: 6, Ino: 7, Mask: sendMode | sendTimes, Attr: Attr{Mode: TypeRegular | 0o600, Mtime: -1}},
		{Kind: recIntent, Ino: 7, Mask: attrMask(actRename), Parent: 1, Name: "b", Parent2: 1, Name2: "a"},
	} {
		f.Add(r.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := decodeRecord(r.encode())
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if !bytes.Equal(r.Data, again.Data) {
			t.Fatalf("data %q became %q", r.Data, again.Data)
		}
		r.Data, again.Data = nil, nil
		if !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

// someRecords makes records of few inodes and names, as bytes choose.
func someRecords(b []byte) []record {
	next := func() int {
		if len(b) == 0 {
			return 0
		}
		v := b[0]
		b = b[1:]
		return int(v)
	}
	var l []record
	for seq := uint64(1); len(b) > 0 && seq < 200; seq++ {
		name := func() string {
			return []string{"a", "b", "c", ".bundlefs~1-2", "", "..", "x/y", "d"}[next()%8]
		}
		kind := recordKind(next()%int(recLearnt)) + 1
		r := record{Kind: kind, Seq: seq, Ino: Ino(next() % 6), Parent: Ino(1 + next()%5), Name: name()}
		switch kind {
		case recBase, recMake, recNode:
			r.Attr.Mode = []uint32{TypeRegular, TypeDir, TypeSymlink, TypeDir, 0}[next()%5] | 0o644
			r.Attr.Size = uint64(next())
			r.Off, r.Len = int64(next()%4), int64(next()%4)
			r.Mask = attrMask(next())
		case recRename, recPlaced, recIntent:
			r.Parent2, r.Name2 = Ino(next()%6), name()
			r.Mask = attrMask(next() % 9)
		case recSent:
			r.Seq = uint64(next())
		case recAttr, recWrite, recCut, recLearnt:
			r.Attr.Mode = []uint32{TypeRegular, TypeRegular, TypeDir, TypeSymlink}[next()%4] | 0o600
			r.Off, r.Attr.Size = int64(next()), uint64(next())
			r.Len = int64(next() % 50)
			if kind == recWrite && next()%2 == 0 {
				r.Data = bytes.Repeat([]byte{7}, int(r.Len))
			}
			r.Mask = attrMask(next())
		}
		l = append(l, r)
	}
	return l
}

// FuzzRecover replays records that are whole, but make no sense: that is an error,
// or a tree that holds together.
func FuzzRecover(f *testing.F) {
	f.Add([]byte{byte(recMake) - 1, 2, 0, 0, 1, 9, 0, 0, 0, byte(recMake) - 1, 3, 1, 1, 0, 9, 0, 0, 0, byte(recWrite) - 1, 3, 0, 0, 0, 0, 9, 9, 0, 0})
	f.Add([]byte{byte(recBase) - 1, 2, 0, 0, 1, 9, 0, 0, 0, byte(recRename) - 1, 0, 0, 0, 1, 1, 0, byte(recPlaced) - 1, 2, 0, 1, 1, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(t.TempDir(), "spool")
		sp, err := spool.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer sp.Destroy()
		x := offline(sp)
		for _, r := range someRecords(b) {
			if err := sp.Append(r.encode()); err != nil {
				t.Fatal(err)
			}
		}
		if x.recover() != nil {
			return
		}
		for len(x.doubts) > 0 {
			v := x.doubts[0]
			x.doubts = x.doubts[1:]
			x.cleared(v, len(x.doubts)%2 == 0)
		}
		if err := x.resumeAll(); err != nil {
			t.Fatal(err)
		}
		x.holdsTogether(t)
		// Whatever it is, what to do next is found without an end in itself.
		for range 10_000 {
			if len(x.ready) == 0 {
				break
			}
			w := x.ready[0]
			x.ready = x.ready[1:]
			w.queued = false
			x.plan(w)
		}
		x.holdsTogether(t)
	})
}

// offline is an exclusive file system without a node.
func offline(sp *spool.Spool) *Exclusive {
	x := &Exclusive{
		spool: sp, log: slog.New(slog.DiscardHandler), nodes: map[Ino]*xnode{}, files: map[Handle]*xfile{}, dirs: map[Handle]*xdir{},
		refused: map[*work]struct{}{}, delayed: map[*work]struct{}{}, putOff: map[*work]putOff{}, generation: 1,
	}
	x.changed = sync.NewCond(&x.mu)
	x.makeRoot(Attr{Mode: TypeDir | 0o755})
	return x
}

// holdsTogether checks what must be true of every tree.
func (x *Exclusive) holdsTogether(t *testing.T) {
	t.Helper()
	dirty, mem := int64(0), int64(0)
	for ino, n := range x.nodes {
		if n.ino != ino || n.attr.Ino != ino {
			t.Fatalf("inode %d is %d", ino, n.ino)
		}
		if n.isDir() != (n.children != nil) || n.isDir() && (len(n.links) > 1 || len(n.places) > 1) {
			t.Fatalf("inode %d, mode %o: %d names here, %d there, children %v", ino, n.attr.Mode, len(n.links), len(n.places), n.children)
		}
		for _, d := range n.links {
			if d.local != n || d.parent.children[d.name] != d || x.nodes[d.parent.ino] != d.parent {
				t.Fatalf("inode %d has not its name %q", ino, d.name)
			}
		}
		for _, d := range n.places {
			if d.remote != n || d.parent.children[d.name] != d || x.nodes[d.parent.ino] != d.parent {
				t.Fatalf("inode %d has not its name %q on the node", ino, d.name)
			}
		}
		for name, d := range n.children {
			if d.name != name || !sane(name) || d.parent != n || d.local != nil && x.nodes[d.local.ino] != d.local || d.remote != nil && x.nodes[d.remote.ino] != d.remote {
				t.Fatalf("name %q in inode %d: %+v", name, ino, d)
			}
		}
		for _, names := range []func(*xnode) []*dentry{func(n *xnode) []*dentry { return n.links }, func(n *xnode) []*dentry { return n.places }} {
			p, steps := n, 0
			for ; len(names(p)) > 0; p = names(p)[0].parent {
				if steps++; steps > len(x.nodes) {
					t.Fatalf("inode %d is inside itself", ino)
				}
			}
		}
		if d := n.data; d != nil {
			if !n.isFile() || d.local.End() > int64(n.attr.Size) || d.dirty.End() > d.local.End() || d.base < 0 || d.mem != nil && int64(len(d.mem)) < d.local.End() {
				t.Fatalf("inode %d of %d bytes: %+v", ino, n.attr.Size, d)
			}
			dirty += d.dirty.Bytes()
			mem += int64(cap(d.mem))
		}
	}
	if dirty != x.dirtyBytes || mem != x.memBytes {
		t.Fatalf("%d bytes dirty, %d in memory, counted %d and %d", dirty, mem, x.dirtyBytes, x.memBytes)
	}
}
