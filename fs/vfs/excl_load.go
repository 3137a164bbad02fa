package vfs

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"bundlefs/fs/extent"
	"bundlefs/internal/sftpwire"
)

// source says where a part of a file's content is.
type source int

const (
	zeros source = iota
	fromSpool
	fromNode
)

// part is a part of a file's content with its source.
type part struct {
	extent.Extent
	from source
}

// parts cuts a range of the content by where it is; mu is held.
func (n *xnode) parts(off, end int64) []part {
	if n.data == nil {
		return []part{{extent.Extent{Off: off, End: end}, fromNode}}
	}
	var l []part
	rest := func(e extent.Extent) { // not local
		if e.Off < n.data.base {
			l = append(l, part{extent.Extent{Off: e.Off, End: min(e.End, n.data.base)}, fromNode})
		}
		if e.End > n.data.base {
			l = append(l, part{extent.Extent{Off: max(e.Off, n.data.base), End: e.End}, zeros})
		}
	}
	for e := range n.data.local.Within(off, end) {
		if off < e.Off {
			rest(extent.Extent{Off: off, End: e.Off})
		}
		l = append(l, part{e, fromSpool})
		off = e.End
	}
	if off < end {
		rest(extent.Extent{Off: off, End: end})
	}
	return l
}

// name is a name of n for messages.
func (n *xnode) name() string {
	if len(n.links) > 0 {
		return n.links[0].name
	}
	return "(removed)"
}

// load lists a folder on the node, of at most so many entries, and makes its children
// known.
func (x *Exclusive) load(ctx context.Context, n *xnode, most int) error {
	for {
		x.mu.Lock()
		if n.complete {
			x.mu.Unlock()
			return nil
		}
		version, since := n.version, x.sends
		x.mu.Unlock()
		p, ok, release, err := x.stay(ctx, n)
		if err != nil {
			return err
		}
		var names []sftpwire.Name
		err = syscall.EIO // what is not on the node is complete
		if ok {
			names, err = readDir(ctx, x.link, p, most)
		}
		release()
		err = x.missing(ctx, err)
		if err != nil {
			return &Error{"readdir", p, err}
		}
		x.mu.Lock()
		if n.version == version { // else: changed on the node meanwhile, by ourselves
			x.merge(n, names, since)
			x.mu.Unlock()
			return nil
		}
		x.mu.Unlock()
	}
}

// merge makes a listing of the node the truth, but for what is to be sent; mu is held.
func (x *Exclusive) merge(n *xnode, names []sftpwire.Name, since uint64) {
	// So that inode numbers are in the order of names: programs read in either.
	slices.SortFunc(names, func(a, b sftpwire.Name) int { return strings.Compare(a.Name, b.Name) })
	seen := make(map[string]bool, len(names))
	for _, entry := range names {
		name := entry.Name
		if checkName(name) != nil {
			if name != "." && name != ".." {
				x.log.Warn("the node listed an impossible name, left out", "folder", n.name(), "name", name)
			}
			continue
		}
		a := x.view.listed(&entry.Stat)
		seen[name] = true
		if d := n.children[name]; d != nil && (d.w != nil || d.gate.busy || d.doubts > 0 || d.local != d.remote) {
			continue
		}
		if isAside(name) && !isLeftover(name) { // kept for its new name, or not ours at all
			x.log.Warn("a file with a reserved name, left alone: whoever misses it gives it another name", "folder", n.name(), "name", name)
			continue
		}
		if isAside(name) {
			// Left there by a mount that was killed.
			d := x.at(n, name)
			x.setRemote(d, x.newNode(a))
			x.ensureWork(d)
			continue
		}
		x.learn(n, name, a, since)
	}
	for name, d := range n.children {
		if !seen[name] && d.w == nil && !d.gate.busy && d.local != nil && d.local == d.remote {
			x.vanished(d)
		}
	}
	x.payVanished()
	n.complete, n.stale = true, false
}

// learn takes over what the node says of a name for which nothing is to be sent; mu is held.
func (x *Exclusive) learn(dir *xnode, name string, a Attr, since uint64) {
	d := x.at(dir, name)
	n := d.local
	// One of several names that is not like the file is another's by now; so are all,
	// if the file was changed: SFTP does not tell what has several names.
	parted := n != nil && len(n.places) > 1 && n.w == nil && n.storing == 0 && n.sentAs <= since && (a.Size != n.attr.Size || wireTime(a.Mtime) != wireTime(n.attr.Mtime))
	if n != nil && n.attr.Mode&TypeMask != a.Mode&TypeMask || parted {
		x.vanished(d)
		if d, n = x.at(dir, name), nil; d.local != nil {
			return // what is in the way of it is kept there, too: the node refuses ours
		}
	}
	if n == nil {
		n = x.newNode(a)
		x.setLocal(d, n)
		x.setRemote(d, n)
		return
	}
	x.learnAttr(n, a, since)
}

// learnAttr takes over attributes, unless ours are to be sent, or were sent since
// the node was asked, when as many sends were done; mu is held.
func (x *Exclusive) learnAttr(n *xnode, a Attr, since uint64) {
	n.stale = false
	if n.w != nil || n.storing > 0 || n.sentAs > since {
		return
	}
	if n.isFile() && (a.Size != n.attr.Size || wireTime(a.Mtime) != wireTime(n.attr.Mtime)) {
		x.dropData(n)
	}
	if wireTime(a.Mtime) == wireTime(n.attr.Mtime) { // keep the nanoseconds
		a.Mtime, a.Ctime = n.attr.Mtime, n.attr.Ctime
	}
	if n.isSymlink() && a != n.attr {
		n.target = ""
	}
	a.Ino = n.ino
	n.learnt = n.learnt || a != n.attr
	n.attr = a
}

// refresh asks the node for the attributes of an inode that may have changed there.
func (x *Exclusive) refresh(ctx context.Context, n *xnode) error {
	var since uint64
	var a Attr
	err := x.atPath(ctx, n, func(p string) error {
		x.mu.Lock()
		since = x.sends
		x.mu.Unlock()
		st, err := statPath(ctx, x.link, p)
		if err != nil {
			return &Error{"stat", p, err}
		}
		a = x.view.listed(st)
		return nil
	})
	err = x.missing(ctx, err)
	switch {
	case errors.Is(err, errNoPlace):
		return nil
	case errors.Is(err, os.ErrNotExist):
		return syscall.ESTALE
	case err != nil:
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.Mode&TypeMask != n.attr.Mode&TypeMask {
		return syscall.ESTALE
	}
	x.learnAttr(n, a, since)
	return nil
}

// Drop forgets all that the node may know better: it is asked again. What is not
// sent stays. It is called after something has worked on the folder on the node.
func (x *Exclusive) Drop() {
	x.mu.Lock()
	var told stale
	for _, n := range x.nodes {
		if n.isDir() && len(n.places) > 0 || n.ino == RootIno {
			n.complete = false
		}
		x.forgetFetched(n)
		if n.w == nil && len(n.places) > 0 {
			n.stale = true
			if n.data != nil && n.data.dirty.Empty() && n.data.flying.Empty() && n.opens == 0 {
				x.dropData(n)
			}
		}
		if n.uses > 0 {
			told.inodes = append(told.inodes, n.ino)
			for _, d := range n.links {
				told.names = append(told.names, staleName{d.parent.ino, d.name})
			}
		}
	}
	x.root.stale = false
	notify := x.notifier
	x.mu.Unlock()
	told.tell(notify)
}

// statPath asks for the attributes of a path.
func statPath(ctx context.Context, t *transport, p string) (*sftpwire.Stat, error) {
	return ask(ctx, t, func(s *session) (*sftpwire.Stat, error) {
		return stated(s.Lstat(p))
	})
}

func readlink(ctx context.Context, t *transport, p string) (string, error) {
	return ask(ctx, t, func(s *session) (string, error) { return s.ReadLink(p).Wait(context.Background()) })
}

// smallFile bounds what readSmall reads: the owner record of a bundle.
const smallFile = 64 << 10

// readSmall reads a small file of the node.
func readSmall(ctx context.Context, t *transport, dir, name string) ([]byte, error) {
	return ask(ctx, t, func(s *session) ([]byte, error) { return readSmallOn(s, dir, name) })
}

func readSmallOn(s *session, dir, name string) ([]byte, error) {
	h, err := s.Open(context.Background(), path.Join(dir, name), sftpwire.FlagRead, sftpwire.Attrs{})
	if err != nil {
		return nil, err
	}
	defer s.CloseHandle(h)
	asked := s.Fstat(h) // tells with the first answer whether there is more
	var data []byte
	for size := uint64(0); len(data) < smallFile; {
		more, err := s.SendRead(h, uint64(len(data)), min(basePacket, smallFile-len(data))).Wait(context.Background())
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		data = append(data, more...)
		if size == 0 {
			size = smallFile
			if st, err := stated(asked); err == nil && st.Size > 0 {
				size = st.Size
			}
		}
		if size == uint64(len(data)) {
			break
		}
	}
	return data, nil
}
