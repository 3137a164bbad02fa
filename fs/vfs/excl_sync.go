package vfs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Refused is a change that the node refuses, kept with its data.
type Refused struct {
	Path  string `json:"path"`  // in the mount
	Errno string `json:"errno"` // as "ENOSPC"
	Error string `json:"error"`
}

// RefusedError is what a barrier reports of changes that are kept since the node
// refuses them.
type RefusedError struct {
	Changes []Refused
	errno   syscall.Errno // of the first
}

func (e *RefusedError) Error() string {
	var l []string
	for i, r := range e.Changes {
		if i == 3 {
			l = append(l, fmt.Sprintf("and %d more", len(e.Changes)-i))
			break
		}
		l = append(l, r.Path+": "+r.Error)
	}
	return "refused by the node and kept: " + strings.Join(l, "; ")
}

func (e *RefusedError) Unwrap() error { return e.errno }

// Sync implements [FileSystem]: the barrier. While it waits, what was put off is
// sent, and what the node has refused for want of space is tried once more.
func (x *Exclusive) Sync(ctx context.Context, progress func(Progress)) error {
	return x.sync(ctx, progress, true)
}

// Settle is Sync for who unmounts: where nothing is pending, nothing is asked of the
// node, not even whether the lease is still ours.
func (x *Exclusive) Settle(ctx context.Context, progress func(Progress)) error {
	return x.sync(ctx, progress, false)
}

// expect notes that somebody waits for the node, until done is called; mu is held for both.
func (x *Exclusive) expect() (done func()) {
	x.barriers++
	select {
	case x.hurried <- struct{}{}:
	default: // somebody else has said so
	}
	return func() { x.barriers-- }
}

func (x *Exclusive) sync(ctx context.Context, progress func(Progress), prove bool) error {
	ctx, done := patient(ctx)
	defer done()
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.expect()()
	x.hurry()
	x.stuck = false // there may be room by now
	for _, w := range x.refusedWorks() {
		if !w.refusal.again.IsZero() {
			x.retry(w)
		}
	}
	upTo := x.seq
	if !prove && x.marks.first == nil && !x.inDoubt(upTo) {
		return x.refusals()
	}
	waited := x.newWait()
	defer waited.end()
	waited.prove()
	var told time.Time
	for {
		if x.fence != nil && x.still() {
			return &Error{"sync", x.rootDir, x.writable()}
		}
		if x.stuck {
			return &Error{"sync", x.o.Spool, errSpoolFull}
		}
		if x.fence == nil && (x.marks.first == nil || x.marks.first.seq > upTo) && !x.inDoubt(upTo) {
			ours, err := waited.proven()
			if err != nil {
				return &Error{"sync", x.rootDir, err}
			}
			if ours {
				break
			}
		}
		if progress != nil && time.Since(told) > 100*time.Millisecond {
			told = time.Now()
			p := Progress{Files: x.pending, Bytes: x.dirtyBytes}
			x.mu.Unlock()
			progress(p)
			x.mu.Lock()
			continue
		}
		if err := x.waitChange(ctx); err != nil {
			return err
		}
		if err := waited.overdue(); err != nil {
			return &Error{"sync", x.rootDir, err}
		}
	}
	if progress != nil {
		x.mu.Unlock()
		progress(Progress{})
		x.mu.Lock()
	}
	return x.refusals()
}

// still reports whether nothing is being sent: nothing is under way, or there is no link for it; mu is held.
func (x *Exclusive) still() bool {
	c, _, _ := x.link.state()
	return x.running == 0 || c == nil || c.isLost()
}

// inDoubt reports whether it is not known of some change up to upTo whether the node has
// made it: there may be something to be taken away again. mu is held.
func (x *Exclusive) inDoubt(upTo uint64) bool {
	return slices.ContainsFunc(x.doubts, func(v *doubt) bool { return v.seq <= upTo })
}

// refusedWorks are the works that the node refuses, in no order; mu is held.
func (x *Exclusive) refusedWorks() []*work {
	var l []*work
	for w := range x.refused {
		if w.refusal.on == nil {
			l = append(l, w)
		}
	}
	return l
}

// refusals is the error of a barrier; mu is held.
func (x *Exclusive) refusals() error {
	l := x.refusedList()
	if len(l) == 0 {
		return nil
	}
	e := &RefusedError{Changes: l, errno: syscall.EIO}
	for _, w := range x.refusedWorks() {
		e.errno = w.refusal.errno
		if w.refusal.errno.Error() == l[0].Error || errnoName(w.refusal.errno) == l[0].Errno {
			break
		}
	}
	return e
}

// refusedList lists what the node refuses, by path; mu is held.
func (x *Exclusive) refusedList() []Refused {
	var l []Refused
	for _, w := range x.refusedWorks() {
		l = append(l, Refused{Path: x.pathOfWork(w), Errno: errnoName(w.refusal.errno), Error: w.refusal.err.Error()})
	}
	slices.SortFunc(l, func(a, b Refused) int { return strings.Compare(a.Path, b.Path) })
	return l
}

func (x *Exclusive) pathOfWork(w *work) string {
	if w.d != nil {
		return x.localPath(w.d)
	}
	if len(w.n.links) == 0 {
		return "."
	}
	return x.localPath(w.n.links[0])
}

// waitNode waits until the node has what was changed of n so far; mu is held.
func (x *Exclusive) waitNode(ctx context.Context, n *xnode) error {
	ctx, done := patient(ctx)
	defer done()
	for _, w := range n.works() {
		if w.refusal != nil && !w.refusal.again.IsZero() {
			x.retry(w)
		}
	}
	upTo := x.seq
	defer x.expect()()
	waited := x.newWait()
	defer waited.end()
	for {
		busy := false
		for _, w := range n.works() {
			if w.refusal != nil {
				return &Error{"fsync", n.name(), w.refusal.err}
			}
			for _, m := range []*mark{w.mark, w.flying} {
				busy = busy || m != nil && m.seq <= upTo
			}
		}
		if err := x.writable(); err != nil && x.still() {
			return &Error{"fsync", n.name(), err}
		}
		if x.stuck {
			return &Error{"fsync", n.name(), errSpoolFull}
		}
		if !busy && x.fence == nil {
			ours, err := waited.proven()
			if err != nil {
				return &Error{"fsync", n.name(), err}
			}
			if ours {
				return nil
			}
		}
		if err := x.waitChange(ctx); err != nil {
			return err
		}
		if err := waited.overdue(); err != nil {
			return &Error{"fsync", n.name(), err}
		}
	}
}

// works are what is to be sent of n: its content and its names.
func (n *xnode) works() []*work {
	var l []*work
	if n.w != nil {
		l = append(l, n.w)
	}
	for _, d := range n.links {
		if d.w != nil {
			l = append(l, d.w)
		}
	}
	return l
}

// patient is a context that ends some time after ctx: who is interrupted waits for
// as long as a request does.
func patient(ctx context.Context) (late context.Context, done func()) {
	if ctx.Done() == nil {
		return ctx, func() {}
	}
	late, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var mu sync.Mutex // guards grace
	var grace *time.Timer
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		grace = time.AfterFunc(interruptGrace, func() { end(ctx.Err()) })
	})
	return late, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if grace != nil {
			grace.Stop()
		}
		end(nil)
	}
}

// waitChange lets go of mu until something has changed, or ctx, which is of
// patient, ends.
func (x *Exclusive) waitChange(ctx context.Context) error {
	if x.draining {
		return errClosed
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.changed.Broadcast()
		})
		defer stop()
	}
	if ctx.Err() == nil {
		x.changed.Wait()
	}
	return context.Cause(ctx)
}

// refusedBy keeps a work that the node has refused; mu is held. Want of space
// passes, so that is tried again by itself, with growing pauses.
func (x *Exclusive) refusedBy(w *work, err error) {
	r := &refusal{err: err, errno: Errno(err)}
	w.denied = 0
	switch r.errno {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EIO:
		w.pause = min(max(2*w.pause, time.Second), time.Minute)
		r.again = time.Now().Add(w.pause)
	}
	x.refuse(w, r)
	x.log.Warn("refused by the node, kept", "path", x.pathOfWork(w), "error", err)
}

// Retry tries once more what the node has refused of the file or folder at path,
// relative to the root, and of all below it. It returns how many changes there were.
func (x *Exclusive) Retry(path string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	count := 0
	for _, w := range x.refusedWorks() {
		if isBelow(x.pathOfWork(w), path) {
			x.retry(w)
			count++
		}
	}
	return count
}

// isBelow reports whether a path is another or below it; all are below "" and ".".
func isBelow(p, dir string) bool {
	dir = strings.Trim(dir, "/")
	return dir == "" || dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}
