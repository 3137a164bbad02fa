package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// doubt is a change of names that the node was asked for and did not answer: the
// link was lost, or this process was killed. Before anything else is sent the node
// is looked at, for paths may lead through a folder that was to be renamed, and
// a name that was to be made may have been removed here since.
type doubt struct {
	kind actionKind
	d    *dentry // who gets or loses the name
	from *dentry // of actRename
	n    *xnode  // nil where a name is removed
	typ  uint32  // of n
	seq  uint64  // the oldest change that it is of
}

// intend writes to the journal what the node is about to be asked for; mu is held.
// Removing a name need not be told, unless the inode has other names: it is done
// again then.
func (x *Exclusive) intend(a *action) error {
	if a.kind == actRmdir || a.kind == actRemove && (a.gone == nil || len(a.gone.places) < 2) {
		a.intended = true
		return nil
	}
	r := &record{Kind: recIntent, Mask: attrMask(a.kind), Parent: a.d.parent.ino, Name: a.d.name}
	if a.n != nil {
		r.Ino = a.n.ino
	}
	if a.kind == actRename {
		r.Parent2, r.Name2 = a.from.parent.ino, a.from.name
	}
	err := x.tellFirst(r)
	a.intended = err == nil
	return err
}

// doubted keeps an action whose answer was lost; mu is held.
func (x *Exclusive) doubted(a *action) {
	if !a.intended || a.d == nil || a.d.remote == a.n {
		return
	}
	v := &doubt{kind: a.kind, d: a.d, n: a.n, typ: a.typ, seq: a.since()}
	a.d.doubts++
	if a.kind == actRename {
		v.from = a.from
		v.from.doubts++
	}
	x.doubts = append(x.doubts, v)
	if !x.clearing {
		x.clearing = true
		x.tasks.Go(func() { _ = x.clearDoubts(x.ctx) }) // its end is told to all who wait, its error is ctx's
	}
}

// denied takes back what intend has written of an action that the node refused; mu is held.
func (x *Exclusive) denied(a *action) {
	if !a.intended || a.d == nil || a.d.remote == a.n {
		return
	}
	r := &record{Kind: recPlaced, Parent: a.d.parent.ino, Name: a.d.name}
	if a.d.remote != nil {
		r.Ino = a.d.remote.ino
	}
	x.tell(r)
}

// certain waits until nothing is in doubt; mu is held, and let go meanwhile. When the lease is lost,
// what is in doubt may stay so: by a name that is gone nothing can be looked at.
func (x *Exclusive) certain() error {
	for len(x.doubts) > 0 && !x.draining && x.fence == nil {
		x.changed.Wait()
	}
	switch {
	case x.draining:
		return errClosed
	case x.fence != nil:
		return errFenced
	}
	return nil
}

// stay returns where n is on the node, if it is there, and keeps it from moving
// until release is called. It waits while that is not certain.
func (x *Exclusive) stay(ctx context.Context, n *xnode) (p string, ok bool, release func(), err error) {
	start := time.Now()
	for {
		x.paths.RLock()
		x.mu.Lock()
		if (len(x.doubts) == 0 || x.fence != nil && !x.clearing) && (len(n.places) == 0 || !n.places[0].gate.busy) {
			release = x.holdName(n)
			p, ok = x.remotePath(n)
			x.mu.Unlock()
			return p, ok, release, nil
		}
		x.paths.RUnlock()
		err := x.waitChange(ctx)
		x.mu.Unlock()
		if err == nil && x.o.Timeout > 0 && time.Since(start) > x.o.Timeout {
			err = context.DeadlineExceeded
		}
		if err != nil {
			return "", false, nil, err
		}
	}
}

// holdName keeps a place of n, if it has one, from becoming another's until release
// is called, which lets go of paths too; mu is held.
func (x *Exclusive) holdName(n *xnode) (release func()) {
	if len(n.places) == 0 {
		return x.paths.RUnlock
	}
	g := &n.places[0].gate
	g.readers++
	return func() {
		x.paths.RUnlock()
		x.mu.Lock()
		defer x.mu.Unlock()
		if g.readers--; g.readers == 0 {
			x.unblock(g)
		}
	}
}

// atPath calls f with the path that n has on the node, until that is not moved
// meanwhile; the error is errNoPlace if it is not there.
func (x *Exclusive) atPath(ctx context.Context, n *xnode, f func(p string) error) error {
	last := ""
	for {
		p, ok, release, err := x.stay(ctx, n)
		if err != nil {
			return err
		}
		err = errNoPlace
		if ok {
			err = f(p)
		}
		release()
		if !errors.Is(err, os.ErrNotExist) || p == last {
			return err
		}
		last = p
	}
}

// errNoPlace is the error of who needs the node for what is not there.
var errNoPlace = fmt.Errorf("not on the node: %w", syscall.EIO)

// errFenced ends what was on its way when the lease was lost; it stays pending.
var errFenced = errors.New("the lock is lost")

// clearDoubts looks at the node for all that is in doubt, until it is certain, or
// ctx ends. One does so at a time: who sets clearing, which it takes back.
func (x *Exclusive) clearDoubts(ctx context.Context) (err error) {
	for {
		x.mu.Lock()
		// In the moment in which this ends, so that no doubt is left to nobody, or to two.
		if x.clearing = err == nil && len(x.doubts) > 0; !x.clearing {
			x.mu.Unlock()
			return err
		}
		x.mu.Unlock()
		var c *connection
		if c, err = x.link.getForever(ctx); err != nil {
			continue
		}
		err = x.clearDoubtsOn(ctx, c)
		if isLost(err) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			c.fail()
			err = nil
		}
	}
}

// clearDoubtsOn does so over one connection, for those there are now.
func (x *Exclusive) clearDoubtsOn(ctx context.Context, c *connection) error {
	x.paths.RLock()
	defer x.paths.RUnlock()
	x.mu.Lock()
	doubts := x.doubts
	x.mu.Unlock()
	const together = 64
	for len(doubts) > 0 {
		some := doubts[:min(together, len(doubts))]
		doubts = doubts[len(some):]
		done := make([]bool, len(some))
		errs := make([]error, len(some))
		var tasks sync.WaitGroup
		for i, v := range some {
			tasks.Go(func() { done[i], errs[i] = x.wasDone(ctx, c, v) })
		}
		tasks.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		x.mu.Lock()
		for i, v := range some {
			x.cleared(v, done[i])
		}
		x.doubts = x.doubts[len(some):]
		x.changed.Broadcast()
		x.mu.Unlock()
	}
	return nil
}

// wasDone looks whether the node has done it.
func (x *Exclusive) wasDone(ctx context.Context, c *connection, v *doubt) (bool, error) {
	there := func(d *dentry) (uint32, error) {
		x.mu.Lock()
		p, ok := x.pathOf(d)
		x.mu.Unlock()
		if !ok {
			return 0, nil
		}
		s := c.pick()
		st, err := on(ctx, x.link, s, func() (*sftpwire.Stat, error) { return stated(s.Lstat(p)) }, nil)
		if err = x.missing(ctx, err); errors.Is(err, os.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return saneMode(st.Permissions) & TypeMask, nil
	}
	typ, err := there(v.d)
	switch {
	case err != nil:
		return false, err
	case v.kind == actRemove || v.kind == actRmdir:
		return typ == 0, nil
	case v.kind != actRename || typ != v.typ:
		return typ == v.typ, nil
	}
	typ, err = there(v.from)
	return typ == 0, err
}

// makesSense reports whether it may have been done, going by where a folder was:
// a journal could tell anything. mu is held.
func (v *doubt) makesSense() bool {
	n := v.n
	if n == nil || !n.isDir() {
		return true
	}
	if inside(v.d.parent, n, func(n *xnode) []*dentry { return n.places }) {
		return false
	}
	return len(n.places) == 0 || v.from == n.places[0]
}

// cleared takes note of what was found; mu is held.
func (x *Exclusive) cleared(v *doubt, done bool) {
	v.d.doubts--
	if v.from != nil {
		v.from.doubts--
	}
	a := &action{kind: v.kind, d: v.d, from: v.from, n: v.n, typ: v.typ, seq: v.seq, intended: true}
	if done && v.makesSense() {
		x.placed(a)
	} else {
		x.denied(a)
	}
	for _, d := range []*dentry{v.d, v.from} {
		switch {
		case d == nil:
		case d.w != nil:
			x.queue(d.w)
		case d.local != d.remote && !(isAside(d.name) && d.remote != nil && d.remote.opens > 0):
			x.ensureWorkOf(d, v.seq)
		default:
			x.tidy(d)
		}
	}
}
