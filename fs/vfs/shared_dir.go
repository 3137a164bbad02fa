package vfs

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/sftp"

	"bundlefs/internal/sftpwire"
)

// openDir is an open folder: a listing taken at one moment.
type openDir struct {
	node *node

	mu      sync.Mutex // guards the listing; held while it is taken
	read    bool
	entries []DirEntry
	taken   time.Time // when the listing was asked for
	moment  uint64    // tree.now() then
}

func (s *Shared) dir(h Handle) *openDir {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirs[h]
}

// OpenDir implements [FileSystem]; nothing is asked before the first ReadDir.
func (s *Shared) OpenDir(ctx context.Context, ino Ino) (Opened, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return Opened{}, &Error{"opendir", "", err}
	}
	if n.mode != TypeDir {
		return Opened{}, &Error{"opendir", "", syscall.ENOTDIR}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastHandle++
	s.dirs[s.lastHandle] = &openDir{node: n}
	return Opened{Handle: s.lastHandle}, nil
}

// ReadDir implements [FileSystem].
func (s *Shared) ReadDir(ctx context.Context, h Handle, again bool) ([]DirEntry, error) {
	d := s.dir(h)
	if d == nil {
		return nil, &Error{"readdir", "", syscall.EBADF}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.read || again {
		taken, moment := time.Now(), s.tree.now()
		entries, err := s.list(ctx, d.node)
		if err != nil {
			return nil, err
		}
		d.entries, d.read, d.taken, d.moment = entries, true, taken, moment
	}
	return d.entries, nil
}

// list asks for the entries of a folder. What cannot be a name is left out: a
// server that sends it is broken or means harm.
func (s *Shared) list(ctx context.Context, dir *node) ([]DirEntry, error) {
	p, release, err := s.holdPath(ctx, dir)
	if err != nil {
		return nil, &Error{"readdir", "", err}
	}
	defer release()
	names, err := readDir(ctx, s.link, p, maxEntries)
	if err != nil {
		return nil, &Error{"readdir", p, err}
	}
	entries := make([]DirEntry, 0, len(names))
	for _, n := range names {
		if !sane(n.Name) || len(n.Name) > maxName {
			s.log.Warn("the node listed an impossible name, left out", "folder", p, "name", n.Name)
			continue
		}
		e := DirEntry{Name: n.Name, Attr: s.view.listed(fromWire(n.Stat))}
		if known := s.tree.child(dir, e.Name); known != nil && known.mode == e.Attr.Mode&TypeMask {
			e.Attr.Ino, e.Attr.Nlink = known.ino, s.tree.nlink(known)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// maxEntries bounds a listing: what the node sends is kept in memory.
const maxEntries = 1 << 20

// readDir lists a folder of the node, which may be asked again.
func readDir(ctx context.Context, t *transport, p string, most int) ([]sftpwire.Name, error) {
	return ask(ctx, t, func(x *session) ([]sftpwire.Name, error) {
		return x.conn.wire.ReadDir(context.Background(), p, most)
	})
}

// fromWire gives attributes of the codec the type of those of pkg/sftp.
func fromWire(st sftpwire.Stat) *sftp.FileStat {
	return &sftp.FileStat{Size: st.Size, Mode: st.Permissions, UID: st.UID, GID: st.GID, Atime: st.Atime, Mtime: st.Mtime}
}

// Instantiate implements [FileSystem]. A long folder is passed on in many parts:
// what was listed is not told of what was changed here since then, nor when it
// has grown old.
func (s *Shared) Instantiate(h Handle, e DirEntry) (Entry, bool) {
	d := s.dir(h)
	if d == nil {
		return Entry{}, false
	}
	d.mu.Lock()
	age, moment := time.Since(d.taken), d.moment
	d.mu.Unlock()
	if age >= min(s.o.NameTimeout, s.o.AttrTimeout) {
		return Entry{}, false
	}
	if s.view.usable(e.Attr) != nil || s.view.Follow && e.Attr.Mode&TypeMask == TypeSymlink {
		return Entry{}, false
	}
	n := s.tree.rememberSince(d.node, e.Name, e.Attr.Mode, moment)
	if n == nil {
		return Entry{}, false
	}
	a := e.Attr
	a.Ino, a.Nlink = n.ino, s.tree.nlink(n)
	found := s.entry(a)
	found.NameValid -= age
	found.AttrValid -= age
	return found, true
}

// ReleaseDir implements [FileSystem].
func (s *Shared) ReleaseDir(h Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dirs, h)
}
