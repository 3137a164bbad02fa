package vfs

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"
)

// openFile is an open file: one handle of the node's server.
type openFile struct {
	node     *node
	path     string // when it was opened; for messages
	session  *session
	remote   *sftp.File
	writable bool
	appends  bool // the server writes at the end, whatever the offset

	temporary bool // opened for one write, and not in the tree
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
	defer s.tree.touch(dir)
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
			if err := f.remote.Chmod(fileMode(mode)); err != nil {
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
		return f.readAt(make([]byte, len(dest)), off)
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
	defer s.tree.touch(f.node)
	if cached && f.appends {
		to, err := s.inPlace(ctx, f.node)
		if err != nil {
			return &Error{"write", f.path, err}
		}
		if to.temporary {
			defer s.closeRemote(to)
		}
		f = to
	}
	data = append([]byte(nil), data...) // as in Read
	_, err := on(ctx, s.link, f.session, func() (struct{}, error) {
		return struct{}{}, f.writeAt(data, off)
	}, nil)
	if err != nil {
		return &Error{"write", f.path, s.whyNotWritten(ctx, f.path, len(data), err)}
	}
	return nil
}

// inPlace returns a handle for pages that the kernel writes back: they belong
// where they were read, in a file that is open for appending too. If no other
// handle will do the file is opened once more, for this write.
func (s *Shared) inPlace(ctx context.Context, n *node) (*openFile, error) {
	if f := s.tree.openWith(n, func(f *openFile) bool { return f.writable && !f.appends }); f != nil {
		return f, nil
	}
	p, release, err := s.holdPath(ctx, n)
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := s.openRemote(ctx, p, syscall.O_WRONLY)
	if err != nil {
		return nil, err
	}
	f.node, f.temporary = n, true
	return f, nil
}

// readAt fills p as far as the file goes. One read of the node may bring less
// than was asked for; only the node's EOF is the end.
func (f *openFile) readAt(p []byte, off int64) ([]byte, error) {
	size := f.session.conn.data
	got := make([]int, (len(p)+size-1)/size)
	var g errgroup.Group
	for i := range got {
		g.Go(func() (err error) {
			from, to := i*size, min((i+1)*size, len(p))
			if got[i], err = f.remote.ReadAt(p[from:to], off+int64(from)); err == io.EOF {
				err = nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	total := 0
	for _, n := range got {
		if total += n; n < size {
			break
		}
	}
	return p[:total], nil
}

// writeAt writes all of p, its parts side by side; one behind the other where the
// server appends each.
func (f *openFile) writeAt(p []byte, off int64) error {
	var g errgroup.Group
	if f.appends {
		g.SetLimit(1)
	}
	for from := 0; from < len(p); from += f.session.conn.data {
		part := p[from:min(from+f.session.conn.data, len(p))]
		g.Go(func() error {
			_, err := f.remote.WriteAt(part, off+int64(from))
			return err
		})
	}
	return g.Wait()
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
		return &Error{"fsync", f.path, s.whyNotWritten(ctx, f.path, 0, err)}
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
	go s.closeRemote(f) // nobody waits for the answer, which a lost link delays
}

// closeRemote closes the node's handles; one that belongs to a lost connection
// is closed already.
func (s *Shared) closeRemote(f *openFile) {
	_, err := on(context.Background(), s.link, f.session, func() (struct{}, error) {
		return struct{}{}, f.remote.Close()
	}, nil)
	if err != nil && f.usable() {
		s.log.Warn("closing a file on the node failed", "path", f.path, "error", err)
	}
}
