package vfs

import (
	"context"
	"errors"
	"os"
	"path"
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// Getattr implements [FileSystem]. With a handle the open file is asked, which
// may have lost its name; otherwise the path. While the node is silent, the root has
// the attributes that it had last.
func (s *Shared) Getattr(ctx context.Context, ino Ino, h Handle) (Entry, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return Entry{}, &Error{"stat", "", err}
	}
	if e, ok := s.known(n); ok {
		return e, nil
	}
	if ino == RootIno {
		return always(s.link, func(ctx context.Context) (Entry, error) { return s.getattr(ctx, n, h) }, func() Entry {
			return Entry{Attr: s.attrBefore(n, s.rootStat.Load())}
		})
	}
	return s.getattr(ctx, n, h)
}

// getattr asks for attributes.
func (s *Shared) getattr(ctx context.Context, n *node, h Handle) (Entry, error) {
	if err := s.settle(ctx, n); err != nil {
		return Entry{}, &Error{"stat", "", err}
	}
	if f := s.file(h); f != nil && f.usable() && f.remote.isOpen() {
		e, err := s.fstat(ctx, n, f)
		if !errors.Is(err, syscall.ESTALE) {
			return e, err
		}
	}
	p, release, err := s.holdPath(ctx, n)
	if err != nil {
		if f := s.tree.anyOpen(n, false); f != nil {
			return s.fstat(ctx, n, f)
		}
		if a, ok := s.tree.removed(n); ok { // a folder that somebody has open still
			return s.entry(a), nil
		}
		return Entry{}, &Error{"stat", "", err}
	}
	defer release()
	st, _, err := s.askStat(ctx, p)
	if err != nil {
		return Entry{}, &Error{"stat", p, err}
	}
	if saneMode(st.Permissions)&TypeMask != n.mode {
		return Entry{}, &Error{"stat", p, syscall.ESTALE} // replaced on the node
	}
	return s.entry(s.attr(n, st)), nil
}

// known gives the attributes of n if they are known. Those of a file with data that
// the node lacks are not.
func (s *Shared) known(n *node) (Entry, bool) {
	p, ok := s.tree.path(n)
	if !ok || s.tree.isPending(n) {
		return Entry{}, false
	}
	st, asked, found := s.cache.look(p)
	ok = found == present && saneMode(st.Permissions)&TypeMask == n.mode
	s.link.metrics.attrs.count(ok)
	if !ok {
		return Entry{}, false
	}
	return s.entryOf(s.attrBefore(n, st), time.Since(asked)), true
}

func (s *Shared) fstat(ctx context.Context, n *node, f *sharedFile) (Entry, error) {
	st, err := onFile(ctx, s, f, func(h remoteHandle) (sftpwire.Stat, error) { return h.Fstat(h.id).Wait(context.Background()) })
	if err != nil {
		return Entry{}, &Error{"fstat", f.path, err}
	}
	return s.entry(s.attr(n, &st)), nil
}

// Setattr implements [FileSystem].
func (s *Shared) Setattr(ctx context.Context, ino Ino, h Handle, set SetAttr) (Entry, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return Entry{}, &Error{"setattr", "", err}
	}
	if set.UID, set.GID, err = s.view.owner(set.UID, set.GID); err != nil {
		return Entry{}, &Error{"setattr", "", err}
	}
	if err := s.settle(ctx, n); err != nil {
		return Entry{}, &Error{"setattr", "", err}
	}
	touched := false
	touch := func() {
		if !touched {
			s.tree.touch(n)
		}
		touched = true
	}
	defer touch()
	if set.Size != nil {
		s.tree.cutting(n, int64(min(*set.Size, 1<<62)))
		defer s.dropAhead(n)
	}
	if set.Mtime != nil {
		s.tree.timesSet(n)
	}
	f := s.file(h)
	if f == nil || !f.usable() || set.Size != nil && !f.writable {
		f = s.tree.anyOpen(n, set.Size != nil)
	}
	p, release, err := s.holdPath(ctx, n)
	if err != nil {
		if f == nil {
			return Entry{}, &Error{"setattr", "", err}
		}
		return s.setOpen(ctx, n, f, set)
	}
	defer release()
	// A file open for writing may be cut though its permissions forbid it by now.
	if set.Size != nil && f != nil && f.writable {
		if err := s.truncate(ctx, f, *set.Size); err != nil {
			return Entry{}, err
		}
		set.Size = nil
	}
	question := s.cache.begin(path.Dir(p))
	defer s.cache.end(question)
	st, err := s.setPath(ctx, n, p, set)
	if err != nil {
		return Entry{}, &Error{"setattr", p, err}
	}
	if st != nil {
		touched = true
		s.tree.changedTo(n, question, path.Base(p), st)
		return s.entryOf(s.attr(n, st), time.Since(question.asked)), nil
	}
	touch() // before the answer is remembered
	if st, _, err = s.askStat(ctx, p); err != nil {
		return Entry{}, &Error{"stat", p, err}
	}
	return s.entry(s.attr(n, st)), nil
}

// setPath changes the attributes of a path, whose lock is held, in one request. It
// returns those that the path has then, nil if they must be asked for.
func (s *Shared) setPath(ctx context.Context, n *node, p string, set SetAttr) (*sftpwire.Stat, error) {
	isLink := n.mode == TypeSymlink
	if isLink && set.Mode != nil {
		return nil, syscall.EOPNOTSUPP // as chmod of a link on Linux
	}
	a := sftpwire.Attrs{Size: set.Size, Permissions: set.Mode, UID: set.UID, GID: set.GID}
	if set.Atime != nil {
		sec := wireTime(*set.Atime)
		a.Atime = &sec
	}
	if set.Mtime != nil {
		sec := wireTime(*set.Mtime)
		a.Mtime = &sec
	}
	// SFTP knows the owner only with the group and one time only with the other.
	if (a.UID == nil) != (a.GID == nil) || (a.Atime == nil) != (a.Mtime == nil) {
		st, err := s.lstat(ctx, p)
		if err != nil {
			return nil, err
		}
		a = completed(a, st)
	}
	if a == (sftpwire.Attrs{}) {
		return nil, nil
	}
	return s.setstat(ctx, p, isLink, a)
}

// completed fills in the other half of what SFTP knows only together, from what is.
func completed(a sftpwire.Attrs, st *sftpwire.Stat) sftpwire.Attrs {
	if a.UID == nil && a.GID != nil {
		a.UID = &st.UID
	}
	if a.GID == nil && a.UID != nil {
		a.GID = &st.GID
	}
	if a.Atime == nil && a.Mtime != nil {
		a.Atime = &st.Atime
	}
	if a.Mtime == nil && a.Atime != nil {
		a.Mtime = &st.Mtime
	}
	return a
}

// setstat sets attributes of a path; of a link itself if isLink is set. It returns
// those that the path has then, nil if they must be asked for.
func (s *Shared) setstat(ctx context.Context, p string, isLink bool, a sftpwire.Attrs) (*sftpwire.Stat, error) {
	st, err := ask(ctx, s.link, func(x *session) (*sftpwire.Stat, error) {
		wire := x.Session
		if _, ok := wire.Extension(sftpwire.ExtLSetstat); isLink && !ok {
			return nil, syscall.EOPNOTSUPP
		}
		return thenLook(wire, p, nil, func() sftpwire.Request { return wire.SendSetstat(p, a, isLink) })
	})
	if errors.Is(err, os.ErrPermission) && a.Size == nil {
		return nil, syscall.EPERM // one word of SFTP for two; who may not chmod gets this one
	}
	if err != nil {
		return nil, s.whyNotWritten(ctx, p, 0, err)
	}
	if st != nil && (!has(st, a) || s.view.Follow && saneMode(st.Permissions)&TypeMask == TypeSymlink) {
		st = nil // a server may answer in any order
	}
	return st, nil
}

// has reports whether attributes are as they were set.
func has(st *sftpwire.Stat, a sftpwire.Attrs) bool {
	return (a.Size == nil || st.Size == *a.Size) &&
		(a.Permissions == nil || st.Permissions&0o7777 == *a.Permissions&0o7777) &&
		(a.UID == nil || st.UID == *a.UID) && (a.GID == nil || st.GID == *a.GID) &&
		(a.Atime == nil || st.Atime == *a.Atime) && (a.Mtime == nil || st.Mtime == *a.Mtime)
}

// setOpen changes the attributes of an open file that has no name any more.
func (s *Shared) setOpen(ctx context.Context, n *node, f *sharedFile, set SetAttr) (Entry, error) {
	if set.Size != nil {
		if err := s.truncate(ctx, f, *set.Size); err != nil {
			return Entry{}, err
		}
	}
	_, err := onFile(ctx, s, f, func(h remoteHandle) (struct{}, error) {
		a := sftpwire.Attrs{Permissions: set.Mode, UID: set.UID, GID: set.GID}
		if set.Atime != nil {
			sec := wireTime(*set.Atime)
			a.Atime = &sec
		}
		if set.Mtime != nil {
			sec := wireTime(*set.Mtime)
			a.Mtime = &sec
		}
		if (a.UID == nil) != (a.GID == nil) || (a.Atime == nil) != (a.Mtime == nil) {
			st, err := h.Fstat(h.id).Wait(context.Background())
			if err != nil {
				return struct{}{}, err
			}
			a = completed(a, &st)
		}
		if a == (sftpwire.Attrs{}) {
			return struct{}{}, nil
		}
		return struct{}{}, h.Fsetstat(h.id, a).Wait(context.Background())
	})
	if err != nil {
		return Entry{}, &Error{"setattr", f.path, err}
	}
	return s.fstat(ctx, n, f)
}
