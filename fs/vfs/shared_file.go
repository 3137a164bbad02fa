package vfs

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/pkg/sftp"
)

// openFile is an open file: one handle of the node's server.
type openFile struct {
	node     *node
	path     string // when it was opened; for messages
	session  *session
	remote   *sftp.File
	writable bool
	appends  bool // the server writes at the end, whatever the offset

	mu      sync.Mutex // guards inPlace
	inPlace *sftp.File // of a file that appends: a second handle that obeys offsets
}

// usable reports whether the connection that the handle belongs to is still there.
func (f *openFile) usable() bool { return !f.session.conn.isLost() }

func (s *Shared) file(h Handle) *openFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[h]
}

// Create implements [FileSystem].
func (s *Shared) Create(ctx context.Context, parent Ino, name string, flags, mode uint32) (Entry, Opened, error) {
	dir, p, release, err := s.holdChild(ctx, parent, name, true)
	if err != nil {
		return Entry{}, Opened{}, &Error{"create", name, err}
	}
	defer release()
	// Exclusively first: only a file that this call made gets its permissions.
	f, err := s.openRemote(ctx, p, flags|syscall.O_CREAT|syscall.O_EXCL)
	made := err == nil
	if isFailure(err) {
		if err = s.whyNotMade(ctx, p, err); errors.Is(err, syscall.EEXIST) && flags&syscall.O_EXCL == 0 {
			f, err = s.openRemote(ctx, p, flags|syscall.O_CREAT)
			err = s.whyNotOpened(ctx, p, err)
		}
	}
	if err != nil {
		return Entry{}, Opened{}, &Error{"create", p, err}
	}
	st, err := on(ctx, s.link, f.session, func() (*sftp.FileStat, error) {
		if made {
			if err := f.remote.Chmod(os.FileMode(mode & 0o777)); err != nil {
				return nil, err
			}
		}
		info, err := f.remote.Stat()
		if err != nil {
			return nil, err
		}
		return fileStat(info)
	}, nil)
	if err != nil {
		s.closeRemote(f)
		return Entry{}, Opened{}, &Error{"create", p, err}
	}
	f.node = s.tree.remember(dir, name, TypeRegular)
	return s.entry(s.attr(f.node, st)), s.addFile(f), nil
}

// Open implements [FileSystem].
func (s *Shared) Open(ctx context.Context, ino Ino, flags uint32) (Opened, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return Opened{}, &Error{"open", "", err}
	}
	p, release, err := s.holdPath(ctx, n)
	if errors.Is(err, syscall.ENOENT) {
		err = syscall.ESTALE // the name was given to another file: look it up again
	}
	if err != nil {
		return Opened{}, &Error{"open", "", err}
	}
	defer release()
	f, err := s.openRemote(ctx, p, flags&^(syscall.O_CREAT|syscall.O_EXCL))
	if err != nil {
		return Opened{}, &Error{"open", p, s.whyNotOpened(ctx, p, err)}
	}
	f.node = n
	return s.addFile(f), nil
}

// openRemote opens p on the node, which every access mode of open(2) has its
// flags for (draft, section 6.3).
func (s *Shared) openRemote(ctx context.Context, p string, flags uint32) (*openFile, error) {
	const passed = syscall.O_ACCMODE | syscall.O_APPEND | syscall.O_CREAT | syscall.O_EXCL | syscall.O_TRUNC
	access := flags & syscall.O_ACCMODE
	return once(ctx, s.link, func(x *session) (*openFile, error) {
		remote, err := x.OpenFile(p, int(flags&passed))
		if err != nil {
			return nil, err
		}
		return &openFile{
			path: p, session: x, remote: remote,
			writable: access != syscall.O_RDONLY,
			appends:  flags&syscall.O_APPEND != 0 && access != syscall.O_RDONLY,
		}, nil
	}, s.closeRemote)
}

// addFile gives an open file its handle.
func (s *Shared) addFile(f *openFile) Opened {
	s.tree.addOpen(f.node, f)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastHandle++
	s.files[s.lastHandle] = f
	return Opened{Handle: s.lastHandle}
}

// Read implements [FileSystem].
func (s *Shared) Read(ctx context.Context, h Handle, dest []byte, off int64) (int, error) {
	f := s.file(h)
	if f == nil {
		return 0, &Error{"read", "", syscall.EBADF}
	}
	// The answer may come when the caller has left and dest is another's.
	data, err := on(ctx, s.link, f.session, func() ([]byte, error) {
		buf := make([]byte, len(dest))
		n, err := f.remote.ReadAt(buf, off)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return buf[:n], err
	}, nil)
	if err != nil {
		return 0, &Error{"read", f.path, err}
	}
	return copy(dest, data), nil
}

// Write implements [FileSystem].
func (s *Shared) Write(ctx context.Context, h Handle, data []byte, off int64, cached bool) error {
	f := s.file(h)
	if f == nil {
		return &Error{"write", "", syscall.EBADF}
	}
	data = append([]byte(nil), data...) // as in Read
	_, err := on(ctx, s.link, f.session, func() (int, error) {
		to := f.remote
		if cached && f.appends {
			var err error
			if to, err = f.obeyingOffsets(); err != nil {
				return 0, err
			}
		}
		return to.WriteAt(data, off)
	}, nil)
	if err != nil {
		return &Error{"write", f.path, s.whyNotWritten(ctx, f.path, err)}
	}
	return nil
}

// obeyingOffsets returns a handle for pages that the kernel writes back: they
// belong where they were read, in a file that is open for appending too.
func (f *openFile) obeyingOffsets() (*sftp.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inPlace == nil {
		remote, err := f.session.OpenFile(f.path, os.O_WRONLY)
		if err != nil {
			return nil, err
		}
		f.inPlace = remote
	}
	return f.inPlace, nil
}

// Flush implements [FileSystem]: each write has waited for the node already.
func (s *Shared) Flush(ctx context.Context, h Handle) error { return nil }

// Fsync implements [FileSystem]; a server without fsync@openssh.com has the data
// and cannot be asked for more.
func (s *Shared) Fsync(ctx context.Context, h Handle) error {
	f := s.file(h)
	if f == nil {
		return nil // a folder, or a file closed meanwhile
	}
	_, err := on(ctx, s.link, f.session, func() (struct{}, error) {
		if _, ok := f.session.HasExtension("fsync@openssh.com"); !ok {
			return struct{}{}, nil
		}
		return struct{}{}, f.remote.Sync()
	}, nil)
	if err != nil {
		return &Error{"fsync", f.path, s.whyNotWritten(ctx, f.path, err)}
	}
	return nil
}

// Release implements [FileSystem].
func (s *Shared) Release(h Handle) {
	s.mu.Lock()
	f := s.files[h]
	delete(s.files, h)
	s.mu.Unlock()
	if f == nil {
		return
	}
	s.tree.dropOpen(f.node, f)
	s.closeRemote(f)
}

// closeRemote closes the node's handles; one that belongs to a lost connection
// is closed already.
func (s *Shared) closeRemote(f *openFile) {
	_, err := on(context.Background(), s.link, f.session, func() (struct{}, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.inPlace != nil {
			f.inPlace.Close()
		}
		return struct{}{}, f.remote.Close()
	}, nil)
	if err != nil && f.usable() {
		s.log.Warn("closing a file on the node failed", "path", f.path, "error", err)
	}
}
