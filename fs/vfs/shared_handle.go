package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"bundlefs/internal/sftpwire"
)

// remoteHandle is a handle that the server of one session has given.
type remoteHandle struct {
	*session
	id string
}

// remoteFile are the handles of an open file on the node: one at first, and one on
// each session when there is much to transfer, since each has a window of its own.
// They belong to one connection; when that is lost the file is opened again.
type remoteFile struct {
	opening *semaphore.Weighted // held by who opens handles

	mu      sync.Mutex // guards what follows
	conn    *connection
	handles []remoteHandle
	next    int   // round robin over the handles
	wide    bool  // widening was begun on this connection
	gone    error // why the file cannot be opened again
	closed  bool
}

// now returns a handle on a connection that stands.
func (r *remoteFile) now() (h remoteHandle, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.gone != nil:
		return h, false, r.gone
	case r.conn == nil || r.conn.isLost():
		return h, false, nil
	}
	r.next++
	return r.handles[r.next%len(r.handles)], true, nil
}

// set replaces all handles by the one of a file that was just opened.
func (r *remoteFile) set(h remoteHandle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.handles, r.wide = h.conn, []remoteHandle{h}, false
}

// isOpen reports whether the file has been opened on the node.
func (r *remoteFile) isOpen() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn != nil
}

// usable reports whether the file can still be asked for by its handles.
func (f *sharedFile) usable() bool {
	f.remote.mu.Lock()
	defer f.remote.mu.Unlock()
	return f.remote.gone == nil && !f.remote.closed
}

// handle returns a handle of f on a connection that stands; the file is opened
// again where that is another than before. It takes no lock on names: its callers
// may hold some.
func (s *Shared) handle(ctx context.Context, f *sharedFile) (remoteHandle, error) {
	if h, ok, err := f.remote.now(); ok || err != nil {
		return h, err
	}
	if err := acquire(ctx, f.remote.opening, 1); err != nil {
		return remoteHandle{}, err
	}
	defer f.remote.opening.Release(1)
	start := time.Now()
	for {
		if h, ok, err := f.remote.now(); ok || err != nil {
			return h, err
		}
		h, err := s.reopen(ctx, f)
		switch {
		case err == nil:
			f.remote.set(h)
			return h, nil
		case errors.Is(err, syscall.ESTALE):
			f.remote.mu.Lock()
			f.remote.gone = err
			f.remote.mu.Unlock()
			return h, err
		case !isLost(err) || s.link.ctx.Err() != nil:
			return h, err
		case s.link.timeout > 0 && time.Since(start) > s.link.timeout:
			return h, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// errReplaced is the cause where another file has the name by now.
var errReplaced = fmt.Errorf("it was removed or replaced on the node while the connection was lost: %w", syscall.ESTALE)

// reopen opens f by its name of now and proves that it is the same file.
func (s *Shared) reopen(ctx context.Context, f *sharedFile) (remoteHandle, error) {
	for try := 0; ; try++ {
		p, ok := s.tree.path(f.node)
		if !ok {
			return remoteHandle{}, errReplaced
		}
		h, err := s.openWire(ctx, p, f.wireFlags(), nil)
		if err == nil {
			var st sftpwire.Stat
			st, err = on(ctx, s.link, h, func() (sftpwire.Stat, error) { return h.Fstat(h.id).Wait(context.Background()) }, nil)
			now, named := s.tree.path(f.node)
			switch {
			case err != nil:
			case !named || !s.tree.isSameOpen(f, &st):
				err = errReplaced
			case now != p: // renamed meanwhile: is it this one?
				s.closeHandle(h)
				continue
			default:
				f.path = p
				return h, nil
			}
			s.closeHandle(h)
		}
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errReplaced) {
			if now, ok := s.tree.path(f.node); ok && now != p {
				continue
			}
			// A rename that the node has done and that is not known here yet.
			if try == 0 && s.awaitNames(ctx, f.node) {
				continue
			}
			return remoteHandle{}, errReplaced
		}
		return remoteHandle{}, err
	}
}

// awaitNames waits a little for changes of n's name that are under way, and reports
// whether it is worth to look again.
func (s *Shared) awaitNames(ctx context.Context, n *node) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	parent := s.tree.parent(n)
	if parent == nil || parent.names.Acquire(ctx, 1) != nil {
		return parent != nil
	}
	parent.names.Release(1)
	return true
}

// openWire opens p on one session, on a connection that stands.
func (s *Shared) openWire(ctx context.Context, p string, flags uint32, mode *uint32) (remoteHandle, error) {
	o, err := s.openStat(ctx, p, flags, mode, false, nil)
	if err != nil {
		return remoteHandle{}, err
	}
	return o.handle, nil
}

// openedFile is what the node has answered to an open.
type openedFile struct {
	handle  remoteHandle
	stat    sftpwire.Stat
	statErr error
}

// openStat opens p, and asks in the same round trip for the attributes of what has
// the name then, if stat is set, and for those of folders.
func (s *Shared) openStat(ctx context.Context, p string, flags uint32, mode *uint32, stat bool, folders folderLooks) (*openedFile, error) {
	c, err := s.link.get(ctx)
	if err != nil {
		return nil, err
	}
	x, start := c.pickSender(), time.Now()
	o, err := on(ctx, s.link, x, func() (*openedFile, error) {
		open := x.SendOpen(p, flags, sftpwire.Attrs{Permissions: mode})
		var question sftpwire.StatRequest
		if stat {
			question = x.Stat(p)
		}
		told := folders.ask(x.Session)
		id, err := open.Wait(context.Background())
		if err != nil {
			return nil, err
		}
		o := &openedFile{handle: remoteHandle{x, id}}
		if stat {
			o.stat, o.statErr = question.Wait(context.Background())
			if isLost(o.statErr) {
				return nil, o.statErr // and so is the handle
			}
		}
		told()
		return o, nil
	}, func(o *openedFile) { s.closeHandle(o.handle) })
	if isLost(err) {
		c.fail()
	} else if err == nil {
		s.link.metrics.rtt.took(time.Since(start))
	}
	return o, err
}

// openAsked opens p with its attributes. An open may be repeated when the connection
// is lost under it.
func (s *Shared) openAsked(ctx context.Context, p string, flags uint32, mode *uint32) (*openedFile, error) {
	start := time.Now()
	for {
		o, err := s.openStat(ctx, p, flags, mode, true, nil)
		if !isLost(err) || s.link.ctx.Err() != nil {
			return o, err
		}
		if s.link.timeout > 0 && time.Since(start) > s.link.timeout {
			return nil, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// onFile runs a request on a handle of f, and again when the connection is lost
// under it: the request must be one that may be done twice.
func onFile[T any](ctx context.Context, s *Shared, f *sharedFile, request func(h remoteHandle) (T, error)) (T, error) {
	start := time.Now()
	for {
		h, err := s.handle(ctx, f)
		if err != nil {
			var zero T
			return zero, err
		}
		v, err := on(ctx, s.link, h, func() (T, error) { return request(h) }, nil)
		if !isLost(err) || s.link.ctx.Err() != nil {
			return v, err
		}
		h.conn.fail()
		if s.link.timeout > 0 && time.Since(start) > s.link.timeout {
			return v, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// mayWiden reports whether more handles could be opened.
func (r *remoteFile) mayWiden() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.wide && r.conn != nil && !r.conn.isLost() && r.conn.complete() && len(r.conn.senders()) > 1 && r.gone == nil && !r.closed
}

// widen opens f on the other sessions too, once for each connection, and proves
// that they have opened the same file. f must be quiet on the node.
func (s *Shared) widen(ctx context.Context, f *sharedFile) {
	r := &f.remote
	r.mu.Lock()
	c := r.conn
	if r.wide || c == nil || c.isLost() || r.gone != nil || r.closed || !c.complete() || len(c.senders()) < 2 {
		r.mu.Unlock()
		return
	}
	r.wide = true
	first := r.handles[0]
	r.mu.Unlock()
	p, ok := s.tree.path(f.node)
	if !ok {
		return
	}
	type opened struct {
		h   remoteHandle
		err error
	}
	var results []<-chan opened
	for _, x := range c.senders() {
		if x == first.session {
			continue
		}
		result := make(chan opened, 1)
		results = append(results, result)
		s.tasks.Go(func() {
			id, err := on(ctx, s.link, x, func() (string, error) {
				return x.SendOpen(p, f.wireFlags(), sftpwire.Attrs{}).Wait(context.Background())
			}, func(id string) { s.closeHandle(remoteHandle{x, id}) })
			result <- opened{remoteHandle{x, id}, err}
		})
	}
	stat := func(h remoteHandle) (sftpwire.Stat, error) {
		return on(ctx, s.link, h, func() (sftpwire.Stat, error) { return h.Fstat(h.id).Wait(context.Background()) }, nil)
	}
	var more []remoteHandle
	for _, result := range results {
		if o := <-result; o.err == nil {
			more = append(more, o.h)
		}
	}
	// The answers are compared at one moment, as far as there is one.
	stats, errs := make([]sftpwire.Stat, len(more)+1), make([]error, len(more)+1)
	var asked sync.WaitGroup
	for i, h := range append([]remoteHandle{first}, more...) {
		asked.Go(func() { stats[i], errs[i] = stat(h) })
	}
	asked.Wait()
	var same, others []remoteHandle
	for i, h := range more {
		a, b := stats[0], stats[i+1]
		a.Atime, b.Atime = 0, 0
		if errors.Join(errs[0], errs[i+1]) == nil && a == b {
			same = append(same, h)
		} else {
			others = append(others, h)
		}
	}
	r.mu.Lock()
	if r.conn == c && !r.closed {
		r.handles = append(r.handles, same...)
	} else {
		others = append(others, same...)
	}
	r.mu.Unlock()
	for _, h := range others {
		s.closeHandle(h)
	}
}

// closeHandle has a handle closed. Nobody waits for the answer; one that belongs to
// a lost connection is closed already.
func (s *Shared) closeHandle(h remoteHandle) {
	s.tasks.Go(func() { s.isClosed(h, h.CloseHandle(h.id)) })
}

// isClosed waits for the answer of a CLOSE.
func (s *Shared) isClosed(h remoteHandle, answer sftpwire.Request) {
	if err := answer.Wait(context.Background()); err != nil && !h.conn.isLost() && !isLost(err) {
		s.log.Warn("closing a file on the node failed", "error", err)
	}
}

// closeRemote has all handles of f closed, and calls then when they are.
func (s *Shared) closeRemote(f *sharedFile, then func()) {
	r := &f.remote
	r.mu.Lock()
	handles := r.handles
	r.handles, r.conn, r.closed = nil, nil, true
	if r.gone == nil {
		r.gone = errClosed
	}
	r.mu.Unlock()
	handles = slices.DeleteFunc(handles, func(h remoteHandle) bool { return h.conn.isLost() })
	var answers []sftpwire.Request
	for _, h := range handles {
		answers = append(answers, h.CloseHandle(h.id))
	}
	s.tasks.Go(func() {
		for i, answer := range answers {
			s.isClosed(handles[i], answer)
		}
		then()
	})
}
