package vfs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// The lease is proved by reading the owner record. That is done when mounting and
// after each reconnect, before anything is sent, and goes on while the link is up:
// beside what is sent, by each barrier, and now and then when there is nothing to do.

// leaseSending is how old the last proof may be while changes are sent, and when a
// barrier ends.
const leaseSending = time.Second

// leaseIdle is how old it may be at other times.
var leaseIdle = 10 * time.Second

// proof is one proof of the lease.
type proof struct {
	begun time.Time
	done  bool // guarded by Exclusive.mu, like err
	err   error
}

// prove begins a proof of the lease if none was begun since a moment; mu is held.
func (x *Exclusive) prove(since time.Time) {
	if x.o.Check == nil || x.draining || x.fence != nil || x.lease != nil && !x.lease.begun.Before(since) {
		return
	}
	p := &proof{begun: time.Now()}
	x.lease = p
	x.tasks.Go(func() {
		err := x.checkLease(x.ctx, x.rootDir)
		if errors.Is(err, ErrLeaseLost) {
			x.fenceOff(err)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		p.done, p.err = true, err
		x.changed.Broadcast()
	})
}

// wait is the patience of who waits for the node: each counts the timeout from its
// own beginning, and makes the link come back soon if it is lost.
type wait struct {
	x     *Exclusive
	begun time.Time
	since time.Time // a proof of the lease that was begun then is good enough; zero: not yet known
	end   func()
}

func (x *Exclusive) newWait() *wait { return &wait{x: x, begun: time.Now(), end: x.link.want()} }

func (w *wait) overdue() error { return w.x.link.overdue(w.begun) }

// prove begins the proof of the lease that the wait needs at least, beside what is
// sent, so that nobody waits for it; mu is held.
func (w *wait) prove() { w.x.prove(w.begun) }

// proven is asked when all has been sent: it reports whether the lease was ours at
// most leaseSending before that, which was the first call. mu is held.
func (w *wait) proven() (bool, error) {
	x := w.x
	if x.o.Check == nil {
		return true, nil
	}
	if w.since.IsZero() {
		w.since = time.Now().Add(-leaseSending)
	}
	x.prove(w.since)
	if p := x.lease; p != nil && p.done && !p.begun.Before(w.since) {
		return p.err == nil, p.err
	}
	return false, nil
}

// checkLease calls the owner's check with a function that reads small files of
// root, the folder of the node that is mounted.
func (x *Exclusive) checkLease(ctx context.Context, root string) error {
	if x.o.Check == nil {
		return nil
	}
	return x.o.Check(func(name string) ([]byte, error) { return readSmall(ctx, x.link, root, name) })
}

// reconnected is called with each new connection before anybody uses it.
func (x *Exclusive) reconnected(ctx context.Context, c *connection) error {
	x.mu.Lock()
	x.window = newWindow() // it may be another way to the node
	root := x.rootDir
	x.mu.Unlock()
	if x.o.Check == nil || root == "" { // not yet checked for the first time
		return nil
	}
	x.mu.Lock()
	on := x.fenced.on
	x.mu.Unlock()
	var err error
	if on {
		err = x.renew(ctx, c)
	}
	if err == nil {
		err = x.o.Check(func(name string) ([]byte, error) { return readSmallOn(c.sessions()[0], root, name) })
	}
	if errors.Is(err, ErrLeaseLost) {
		x.fenceOff(err)
		return nil // reading goes on
	}
	if err == nil && on {
		x.noteServers(c)
	}
	return err
}

// fencedByName reports whether the folder is reached by a lease name.
func (x *Exclusive) fencedByName() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.fenced.home != ""
}

// fenceOff makes the file system read-only and keeps what is not sent.
func (x *Exclusive) fenceOff(cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.fence != nil {
		return
	}
	x.fence = cause
	x.log.Error("nothing more is written", "error", cause, "not_sent", x.marks.n, "spool", x.o.Spool)
	x.changed.Broadcast()
}

// unfenced is errFenced when the lease is lost.
func (x *Exclusive) unfenced() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.fence != nil {
		return errFenced
	}
	return nil
}

// writable is checked by every change, before it is made; mu is held.
func (x *Exclusive) writable() error {
	if x.fence != nil {
		return fmt.Errorf("%w: %w", syscall.EROFS, x.fence)
	}
	if x.full {
		x.compact()
	}
	return nil
}
