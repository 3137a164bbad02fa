package vfs

import (
	"context"
	"errors"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"bundlefs/internal/sftpwire"
)

// sharedFile is an open file of shared mode.
type sharedFile struct {
	node      *node
	path      string // when it was last opened on the node; for messages
	flags     uint32 // of open(2)
	writable  bool
	appends   bool // the server writes at the end, whatever the offset
	temporary bool // opened for one write; it has no handle here

	told     atomic.Int64 // its size when it was opened
	identity identity
	remote   remoteFile
	queue    writeQueue

	readerOnce sync.Once
	ahead      atomic.Pointer[readAhead]
	fetched    atomic.Pointer[fetchedFile] // all of it, if it was fetched ahead
	readAs     atomic.Uint64               // node.seenAs when it was last read
	left       chan struct{}               // closed when it is released, and closed on the node
}

// newSharedFile makes an open file, which is not open on the node yet.
func newSharedFile(p string, flags uint32) *sharedFile {
	access := flags & syscall.O_ACCMODE
	f := &sharedFile{path: p, flags: flags, writable: access != syscall.O_RDONLY, left: make(chan struct{})}
	f.appends = f.writable && flags&syscall.O_APPEND != 0
	f.remote.opening = semaphore.NewWeighted(1)
	f.queue.changed = sync.NewCond(&f.queue.mu)
	return f
}

// wireFlags are the flags with which the file is opened on the node again.
func (f *sharedFile) wireFlags() uint32 {
	return wireFlags(f.flags &^ (syscall.O_CREAT | syscall.O_EXCL | syscall.O_TRUNC))
}

// wireFlags turns flags of open(2) into those of SFTP (draft, section 6.3).
func wireFlags(flags uint32) (w uint32) {
	switch flags & syscall.O_ACCMODE {
	case syscall.O_RDONLY:
		w = sftpwire.FlagRead
	case syscall.O_WRONLY:
		w = sftpwire.FlagWrite
	default:
		w = sftpwire.FlagRead | sftpwire.FlagWrite
	}
	for flag, bit := range map[uint32]uint32{
		syscall.O_CREAT: sftpwire.FlagCreate, syscall.O_EXCL: sftpwire.FlagExclusive, syscall.O_TRUNC: sftpwire.FlagTruncate,
	} {
		if flags&flag != 0 {
			w |= bit
		}
	}
	if flags&syscall.O_APPEND != 0 && w&sftpwire.FlagWrite != 0 {
		w |= sftpwire.FlagAppend
	}
	return w
}

func (s *Shared) file(h Handle) *sharedFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[h]
}

// Create implements [FileSystem].
func (s *Shared) Create(ctx context.Context, parent Ino, name string, flags, mode uint32) (Entry, Opened, error) {
	dir, p, release, err := s.holdChild(ctx, parent, name, makes)
	if err != nil {
		return Entry{}, Opened{}, &Error{"create", name, err}
	}
	defer release()
	folder := folderLooks{s.look(dir, p)}
	defer folder.end()
	// Exclusively first: only a file that this call made gets its permissions.
	asked := time.Now()
	o, err := s.createRemote(ctx, p, flags, &mode, folder)
	made := err == nil
	if isFailure(err) {
		if err = s.whyNotMade(ctx, p, err); errors.Is(err, syscall.EEXIST) && flags&syscall.O_EXCL == 0 {
			o, err = s.openAsked(ctx, p, wireFlags(flags|syscall.O_CREAT), &mode)
			err = s.whyNotOpened(ctx, p, err)
		}
	}
	if err != nil {
		return Entry{}, Opened{}, &Error{"create", p, err}
	}
	h, st, err := o.handle, o.stat, o.statErr
	if err != nil || saneMode(st.Permissions)&TypeMask != TypeRegular || made && st.Permissions&0o7777 != mode {
		// The server's umask has taken bits away, or somebody else was at work.
		st, err = on(ctx, s.link, h, func() (sftpwire.Stat, error) {
			if made && st.Permissions&0o7777 != mode {
				if err := h.Fsetstat(h.id, sftpwire.Attrs{Permissions: &mode}).Wait(context.Background()); err != nil {
					return sftpwire.Stat{}, err
				}
			}
			return h.Fstat(h.id).Wait(context.Background())
		}, nil)
	}
	if err != nil {
		s.closeHandle(h)
		s.cache.doubt(p)
		return Entry{}, Opened{}, &Error{"create", p, err}
	}
	folder.changed(nil)
	f := newSharedFile(p, flags)
	f.remote.set(h)
	f.node = s.tree.remember(dir, name, TypeRegular)
	s.tree.touch(f.node)
	if made {
		fetch := s.cache.begin(path.Dir(p))
		fetch.asked = asked
		s.cache.put(fetch, name, &st)
		s.cache.end(fetch)
	}
	f.identity.told(&st)
	a := s.attr(f.node, &st)
	return s.entry(a), s.addFile(f, a), nil
}

// Open implements [FileSystem].
func (s *Shared) Open(ctx context.Context, ino Ino, flags uint32) (Opened, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return Opened{}, &Error{"open", "", err}
	}
	if err := s.settle(ctx, n); err != nil {
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
	flags &^= syscall.O_CREAT | syscall.O_EXCL
	if flags&syscall.O_TRUNC != 0 {
		s.tree.cutting(n, 0)
		defer s.dropAhead(n)
	}
	var small *fetchedFile
	if flags&(syscall.O_ACCMODE|syscall.O_TRUNC) == syscall.O_RDONLY {
		var good bool
		if small, good = s.fetched(ctx, n, p); good {
			return s.openFetched(n, p, flags, small), nil
		}
	}
	defer func() { s.small.free(small) }()
	fetch := s.cache.begin(path.Dir(p))
	defer s.cache.end(fetch)
	o, err := s.openAsked(ctx, p, wireFlags(flags), nil)
	if err != nil {
		return Opened{}, &Error{"open", p, s.whyNotOpened(ctx, p, err)}
	}
	h, st, err := o.handle, o.stat, o.statErr
	if err != nil { // its name was taken away in between
		st, err = on(ctx, s.link, h, func() (sftpwire.Stat, error) { return h.Fstat(h.id).Wait(context.Background()) }, nil)
	}
	if err == nil && saneMode(st.Permissions)&TypeMask != n.mode {
		err = syscall.ESTALE // replaced on the node
	}
	if err != nil {
		s.closeHandle(h)
		return Opened{}, &Error{"open", p, err}
	}
	if flags&syscall.O_TRUNC == 0 || st.Size == 0 { // else a server has answered out of order
		s.cache.put(fetch, path.Base(p), &st) // what is told from now on is not older
	}
	f := newSharedFile(p, flags)
	f.remote.set(h)
	if small != nil && small.stillGood(&st) {
		f.fetched.Store(small)
		small = nil
	}
	return s.opened(f, n, &st), nil
}

// opened makes known an open file that is n and has these attributes.
func (s *Shared) opened(f *sharedFile, n *node, st *sftpwire.Stat) Opened {
	f.node = n
	f.told.Store(int64(min(st.Size, 1<<62)))
	f.identity.told(st)
	a := s.attr(n, st)
	if f.fetched.Load() != nil {
		seen, _ := s.tree.changeSeen(n)
		f.readAs.Store(seen)
	}
	o := s.addFile(f, a)
	o.AttrChanged = s.tree.toldAtOpen(n, a, s.o.AttrTimeout)
	return o
}

// addFile gives an open file, with the attributes it was opened with, its handle.
func (s *Shared) addFile(f *sharedFile, a Attr) Opened {
	keep := s.tree.wasOpened(f.node, a)
	s.tree.addOpen(f.node, f)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastHandle++
	s.files[s.lastHandle] = f
	return Opened{Handle: s.lastHandle, KeepCache: keep && !s.o.NoAutoCache || s.o.KernelCache, DirectIO: s.o.DirectIO, NoFlush: !f.writable}
}

// Release implements [FileSystem].
func (s *Shared) Release(h Handle) {
	s.mu.Lock()
	f := s.files[h]
	delete(s.files, h)
	if f != nil {
		s.leaving[f] = struct{}{}
	}
	s.mu.Unlock()
	if f != nil {
		s.drop(f)
	}
}

// drop ends the use of a file. What was written and is not on the node yet, since
// its writer was interrupted, goes there first.
func (s *Shared) drop(f *sharedFile) {
	f.queue.mu.Lock()
	left := len(f.queue.chunks) > 0
	f.queue.urgent = true
	f.queue.changed.Broadcast()
	f.queue.mu.Unlock()
	if left {
		s.tasks.Go(func() { s.ended(f) })
		return
	}
	s.ended(f)
}

// ended closes a file when nothing of it is left to be sent.
func (s *Shared) ended(f *sharedFile) {
	f.queue.mu.Lock()
	for len(f.queue.chunks) > 0 {
		f.queue.changed.Wait()
	}
	err := f.queue.err
	f.queue.mu.Unlock()
	if err != nil {
		s.log.Error("a file was closed before its writer was told of an error", "error", err)
	}
	s.small.free(f.fetched.Swap(nil))
	if r := f.ahead.Load(); r != nil {
		r.Close()
	}
	s.tree.dropOpen(f.node, f)
	s.closeRemote(f, func() {
		s.mu.Lock()
		delete(s.leaving, f)
		s.mu.Unlock()
		close(f.left)
	})
}

// awaitLeft waits until the node has closed the files of n that are released. What is sent to it after
// that is not hindered by them: a node has no room for a new file as long as a removed one is open there.
// The CLOSE was sent before, so that this takes no round trip.
func (s *Shared) awaitLeft(ctx context.Context, n *node) {
	var own []*sharedFile
	s.mu.Lock()
	for f := range s.leaving {
		if f.node == n {
			own = append(own, f)
		}
	}
	s.mu.Unlock()
	for _, f := range own {
		select {
		case <-f.left:
		case <-ctx.Done():
			return
		}
	}
}
