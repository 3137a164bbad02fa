package vfs

import (
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// openDir is an open folder: a listing taken at one moment.
type openDir struct {
	node *node

	mu      sync.Mutex // guards the listing; held while it is taken
	read    bool
	entries []DirEntry
	moment  uint64 // tree.now() when it was asked for
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
		moment := s.tree.now()
		entries, err := s.list(ctx, d.node)
		if err != nil {
			return nil, err
		}
		d.entries, d.read, d.moment = entries, true, moment
	}
	return d.entries, nil
}

// list gives the entries of a folder: those that are known, or else those that
// the node is asked for, by this caller or another.
func (s *Shared) list(ctx context.Context, dir *node) ([]DirEntry, error) {
	p, release, err := s.holdPath(ctx, dir)
	if err != nil {
		return nil, &Error{"readdir", "", err}
	}
	defer release()
	for {
		if l, ok := s.cache.list(p, s.view.Follow); ok {
			s.link.metrics.listings.count(true)
			s.listAhead(p)
			return s.entries(dir, l), nil
		}
		f, mine := s.cache.beginList(p)
		if !mine {
			select {
			case <-f.done:
				continue
			case <-ctx.Done():
				return nil, &Error{"readdir", p, ctx.Err()}
			}
		}
		s.link.metrics.listings.count(false)
		names, err := s.readNames(ctx, p, maxEntries)
		// In one order whether it was known or not: programs read files in that order.
		slices.SortFunc(names, func(a, b sftpwire.Name) int { return strings.Compare(a.Name, b.Name) })
		if err == nil {
			s.cache.putList(f, names, false, s.view.Follow)
			s.cache.putScan(f, names)
		}
		s.cache.end(f)
		if err != nil {
			return nil, &Error{"readdir", p, err}
		}
		s.listAhead(p)
		l := listing{names, make([]time.Time, len(names))}
		for i := range names {
			l.asked[i] = f.asked
		}
		return s.entries(dir, l), nil
	}
}

// entries turns a listing of the folder dir into what callers get.
func (s *Shared) entries(dir *node, l listing) []DirEntry {
	entries := make([]DirEntry, 0, len(l.names))
	for i, n := range l.names {
		e := DirEntry{Name: n.Name, Attr: s.view.listed(&n.Stat), asked: l.asked[i]}
		if s.view.Follow && e.Attr.Mode&TypeMask == TypeSymlink {
			e.asked = time.Time{} // it is what it leads to
		}
		if known := s.tree.child(dir, e.Name); known != nil && known.mode == e.Attr.Mode&TypeMask {
			e.Attr.Ino, e.Attr.Nlink = known.ino, s.tree.nlink(known)
		}
		entries = append(entries, e)
	}
	return entries
}

// readNames asks for the names in a folder of the node. What cannot be a name,
// or is there twice, is left out: a server that sends it is broken or means harm.
func (s *Shared) readNames(ctx context.Context, p string, most int) ([]sftpwire.Name, error) {
	names, err := readDir(ctx, s.link, p, most)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]struct{}, len(names))
	return slices.DeleteFunc(names, func(n sftpwire.Name) bool {
		_, twice := seen[n.Name]
		seen[n.Name] = struct{}{}
		if twice || checkName(n.Name) != nil {
			s.log.Warn("the node listed an impossible name, left out", "folder", p, "name", n.Name)
			return true
		}
		return false
	}), nil
}

// maxEntries bounds a listing: what the node sends is kept in memory.
const maxEntries = 1 << 20

// readDir lists a folder of the node, which may be asked again.
func readDir(ctx context.Context, t *transport, p string, most int) ([]sftpwire.Name, error) {
	return ask(ctx, t, func(x *session) ([]sftpwire.Name, error) {
		return x.ReadDir(context.Background(), p, most)
	})
}

// Instantiate implements [FileSystem]. A long folder is passed on in many parts:
// what was listed is not told of what was changed here since then, nor when it
// has grown old.
func (s *Shared) Instantiate(h Handle, e DirEntry) (Entry, bool) {
	d := s.dir(h)
	if d == nil {
		return Entry{}, false
	}
	if e.asked.IsZero() || s.view.usable(e.Attr) != nil {
		return Entry{}, false
	}
	d.mu.Lock()
	moment := d.moment
	d.mu.Unlock()
	found := s.entryOf(e.Attr, time.Since(e.asked))
	if found.NameValid <= 0 || found.AttrValid <= 0 {
		if p, ok := s.tree.path(d.node); ok && s.cache.scanning(p) {
			found = s.entryOf(e.Attr, 0)
		}
	}
	if found.NameValid <= 0 || found.AttrValid <= 0 {
		return Entry{}, false
	}
	n := s.tree.rememberSince(d.node, e.Name, e.Attr, moment)
	if n == nil {
		return Entry{}, false
	}
	found.Attr.Ino, found.Attr.Nlink = n.ino, s.tree.nlink(n)
	s.tree.told(found.Attr)
	return found, true
}

// ReleaseDir implements [FileSystem].
func (s *Shared) ReleaseDir(h Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dirs, h)
}
