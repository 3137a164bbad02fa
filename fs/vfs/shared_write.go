package vfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"bundlefs/internal/sftpwire"
)

// mostAtATime bounds what one writer waits for in the room for written data.
const mostAtATime = 1 << 20

// Write implements [FileSystem]. It returns when there is room for the data, which
// is sent behind; Flush, and whatever needs it to be there, waits for the node.
func (s *Shared) Write(ctx context.Context, h Handle, data []byte, off int64, cached bool) error {
	f := s.file(h)
	if f == nil {
		return &Error{"write", "", syscall.EBADF}
	}
	if err := f.takeErr(); err != nil {
		return err
	}
	if cached && f.appends {
		to, err := s.inPlace(ctx, f.node)
		if err != nil {
			return &Error{"write", f.path, err}
		}
		if to.temporary {
			defer s.drop(to)
			if err := s.write(ctx, to, data, off); err != nil {
				return err
			}
			return s.flush(ctx, to)
		}
		f = to
	}
	if err := s.write(ctx, f, data, off); err != nil {
		return err
	}
	if s.o.SyncWrites {
		return s.flush(ctx, f)
	}
	return nil
}

func (s *Shared) write(ctx context.Context, f *sharedFile, data []byte, off int64) error {
	if err := s.settleOthers(ctx, f); err != nil {
		return &Error{"write", f.path, err}
	}
	for len(data) > 0 {
		n := min(len(data), mostAtATime)
		if err := s.takeRoom(ctx, f, int64(n)); err != nil {
			return &Error{"write", f.path, err}
		}
		s.put(f, data[:n], off)
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// settleOthers waits until the node has what was written through other handles: the
// order of what two handles write is that of their calls.
func (s *Shared) settleOthers(ctx context.Context, f *sharedFile) error {
	if !s.tree.isPending(f.node) {
		return nil
	}
	for _, other := range s.tree.handles(f.node) {
		if other != f {
			if err := s.settleFile(ctx, other); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeRoom waits for room for written data, as long as a session that is to take some gives
// signs of life.
func (s *Shared) takeRoom(ctx context.Context, f *sharedFile, n int64) error {
	if s.room.TryAcquire(n) {
		return nil
	}
	wait, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		err = s.room.Acquire(wait, n)
		close(done)
	}()
	waited := s.link.await(ctx, done, s.link.sending)
	cancel()
	<-done
	switch {
	case waited == nil:
		return err
	case err == nil:
		s.room.Release(n)
	}
	if errors.Is(waited, context.DeadlineExceeded) {
		f.queue.giveUp()
	}
	return waited
}

// inPlace returns a handle for pages that the kernel writes back: they belong
// where they were read, in a file that is open for appending too. If no other
// handle will do the file is opened once more, for this write.
func (s *Shared) inPlace(ctx context.Context, n *node) (*sharedFile, error) {
	if f := s.tree.openWith(n, func(f *sharedFile) bool { return f.writable && !f.appends }); f != nil {
		return f, nil
	}
	p, release, err := s.holdPath(ctx, n)
	if err != nil {
		return nil, err
	}
	defer release()
	o, err := s.openStat(ctx, p, sftpwire.FlagWrite, nil, true, nil)
	if err != nil {
		return nil, err
	}
	if err := o.statErr; err != nil || !s.tree.isOpen(n, &o.stat) {
		s.closeHandle(o.handle)
		return nil, cmp.Or(err, errReplaced)
	}
	f := newSharedFile(p, syscall.O_WRONLY)
	f.remote.set(o.handle)
	f.node, f.temporary = n, true
	f.identity.told(&o.stat)
	s.tree.addOpen(n, f)
	return f, nil
}

// Flush implements [FileSystem]: when it returns the node has what was written, and
// whoever opens the file afterwards, anywhere, reads it.
func (s *Shared) Flush(ctx context.Context, h Handle) error {
	f := s.file(h)
	if f == nil || !f.writable {
		return nil
	}
	return s.flush(ctx, f)
}

func (s *Shared) flush(ctx context.Context, f *sharedFile) error {
	if err := s.settleFile(ctx, f); err != nil {
		return &Error{"write", f.path, err}
	}
	return f.takeErr()
}

// Fsync implements [FileSystem]; a server without fsync@openssh.com has the data
// and cannot be asked for more.
func (s *Shared) Fsync(ctx context.Context, h Handle) error {
	f := s.file(h)
	if f == nil {
		return nil // a folder, or a file closed meanwhile
	}
	if err := s.settle(ctx, f.node); err != nil {
		return &Error{"fsync", f.path, err}
	}
	if err := f.takeErr(); err != nil {
		return err
	}
	_, err := onFile(ctx, s, f, func(h remoteHandle) (struct{}, error) {
		if _, ok := h.Extension(sftpwire.ExtFsync); !ok {
			return struct{}{}, nil
		}
		return struct{}{}, h.Fsync(h.id).Wait(context.Background())
	})
	if err != nil {
		return &Error{"fsync", f.path, s.whyNotWritten(ctx, f.path, 0, err)}
	}
	return nil
}

// truncate sets the size of an open file.
func (s *Shared) truncate(ctx context.Context, f *sharedFile, size uint64) error {
	_, err := onFile(ctx, s, f, func(h remoteHandle) (struct{}, error) {
		return struct{}{}, h.Fsetstat(h.id, sftpwire.Attrs{Size: &size}).Wait(context.Background())
	})
	if err != nil {
		return &Error{"truncate", f.path, s.whyNotWritten(ctx, f.path, 0, err)}
	}
	return nil
}

// dropAhead drops what was read ahead of n.
func (s *Shared) dropAhead(n *node) {
	for _, f := range s.tree.handles(n) {
		s.dropFetched(f, 0, -1)
	}
}

// Sync implements [FileSystem]: it waits until the node has all that was written.
// What could not be written is told by the files it was written to.
func (s *Shared) Sync(ctx context.Context, progress func(Progress)) error {
	files := s.allFiles()
	for i, f := range files {
		if progress != nil {
			progress(Progress{Files: len(files) - i})
		}
		if f.queue.owed() == 0 {
			continue
		}
		if err := s.settleFile(ctx, f); err != nil {
			return fmt.Errorf("wait for %s: %w", f.path, err)
		}
	}
	return ctx.Err()
}

// allFiles are the files that are open, and those that are released and not yet closed.
func (s *Shared) allFiles() []*sharedFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := slices.Collect(maps.Values(s.files))
	return slices.AppendSeq(files, maps.Keys(s.leaving))
}
