package vfs

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// gatherTime is how long the sender waits for more when there is something to send again, and nobody waits for it:
// what is sent together goes in few packets, for which the programs here and on the node wake up once.
const gatherTime = 20 * time.Millisecond

// gather lets go of mu for that time, or until somebody waits for the node.
func (x *Exclusive) gather() {
	x.mu.Unlock()
	defer x.mu.Lock()
	timer := time.NewTimer(gatherTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.hurried:
	case <-x.ctx.Done():
	}
}

// dispatch starts actions until Close.
func (x *Exclusive) dispatch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	idle := true // nothing was left to be started
	for {
		for !x.draining && (len(x.ready) == 0 || len(x.doubts) > 0 || x.quiet || x.stuck || x.running >= x.window.limit || x.fence != nil) {
			x.changed.Wait()
		}
		if x.draining {
			return
		}
		if idle && x.barriers == 0 {
			idle = false
			x.gather()
			continue
		}
		w := x.ready[0]
		x.ready[0] = nil
		x.ready = x.ready[1:]
		w.queued = false
		idle = len(x.ready) == 0
		if a := x.plan(w); a != nil {
			x.prove(time.Now().Add(-leaseSending))
			x.running++
			x.tasks.Go(func() { x.perform(a) })
		}
	}
}

// tick gives what was put off its turn, and refused works another try.
func (x *Exclusive) tick() {
	const period = 500 * time.Millisecond
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-x.ctx.Done():
			return
		case <-ticker.C:
		}
		x.mu.Lock()
		x.flushDelayed()
		now := time.Now()
		for w := range x.refused {
			if r := w.refusal; !r.again.IsZero() && now.After(r.again) {
				x.retry(w)
			}
		}
		x.compact()
		if x.stuck {
			_ = x.payOwed() // or at the next tick
		}
		x.changed.Broadcast()                    // who waits may want to tell how far it is
		if c, _, _ := x.link.state(); c != nil { // else it is proved with the next connection
			x.prove(time.Now().Add(-leaseIdle))
		}
		ask := x.space.known && time.Since(x.space.taken) > 10*spaceAge && time.Since(x.space.asked) < 10*spaceAge
		x.mu.Unlock()
		if ask {
			x.refreshSpace(x.ctx)
		}
	}
}

// flushDelayed queues the small changes of files that are still written; mu is held.
func (x *Exclusive) flushDelayed() {
	for w := range x.delayed {
		if n := w.n; n != nil {
			n.pressed = true
		} else if w.d.local != nil {
			w.d.local.pressed = true
		}
		x.queue(w)
	}
}

// perform does an action on the node, as often as the link is lost under it, and
// then what follows from its end.
func (x *Exclusive) perform(a *action) {
	err := x.attempt(a)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running--
	defer func() {
		if x.quiet && x.running == 0 {
			x.compact()
		}
	}()
	for _, g := range a.held {
		g.busy = false
	}
	x.ended(a, err)
	for _, g := range a.held {
		x.unblock(g)
	}
	for _, d := range []*dentry{a.d, a.from} {
		if d != nil {
			x.tidy(d)
		}
	}
	for _, n := range []*xnode{a.n, a.gone} {
		if n != nil {
			x.reap(n)
		}
	}
	x.changed.Broadcast()
}

// deniedMost is how often what the node has said no to is tried again before it is
// refused: a name after EACCES, and what has changed meanwhile.
const deniedMost = 3

// ended takes note of how an action has ended; mu is held.
func (x *Exclusive) ended(a *action, err error) {
	w := a.w
	if x.again(err) {
		x.doubted(a)
		x.failed(w)
		x.queue(w)
		return
	}
	if err != nil {
		x.denied(a)
		if w.d != nil && Errno(err) == syscall.EACCES && x.unlock(w.d.parent, a.unlocked) {
			x.failed(w)
			x.queue(w)
			return
		}
		if w.d != nil && Errno(err) == syscall.EACCES && w.denied < deniedMost {
			// A mode of the folder that is on its way may allow it soon.
			w.denied++
			x.failed(w)
			if parent := w.d.parent; parent.gate.busy {
				parent.gate.wait(w)
			} else if w.denied == 1 {
				x.queue(w)
			} else {
				x.delayed[w] = struct{}{}
			}
			return
		}
		changed := w.mark != nil
		x.failed(w)
		if w.d != nil && w.d.local == w.d.remote || w.n != nil && w.n.dead() {
			x.queue(w) // what was refused is not wanted any more
			return
		}
		if changed && w.denied < deniedMost { // perhaps what is wanted now is not refused
			w.denied++
			x.queue(w)
			return
		}
		x.refusedBy(w, err)
		if changed {
			w.refusal.changed()
		}
		return
	}
	if w.d != nil && w.d.local != w.d.remote {
		x.failed(w) // one step of several
		x.queue(w)
		return
	}
	x.landed(w)
	if w.mark != nil && (w.n != nil || w.d.local != w.d.remote) {
		x.queue(w)
		return
	}
	x.settle(w)
}

// unlock sees to it that the owner may work in a folder whose mode is to be changed,
// after what it holds. It returns false if that is not so, or was done before the
// node was asked; mu is held.
func (x *Exclusive) unlock(dir *xnode, before bool) bool {
	if dir.send&sendMode == 0 || before {
		return false
	}
	dir.locked = !dir.unlocked
	return true
}

// again reports whether an error is the link's or ours and not the node's answer. What is cut here
// while it is sent has moved: what is left of it is planned anew.
func (x *Exclusive) again(err error) bool {
	return isLost(err) || err == errMoved || errors.Is(err, errFenced) || errors.Is(err, errSpoolFull) || errors.Is(err, errClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// placed notes in the journal and the tree what an action on names has done; mu is held.
func (x *Exclusive) placed(a *action) {
	r := &record{Kind: recPlaced, Parent: a.d.parent.ino, Name: a.d.name}
	if a.n != nil {
		r.Ino = a.n.ino
	}
	if a.kind == actRename {
		r.Parent2, r.Name2 = a.from.parent.ino, a.from.name
	}
	x.tell(r)
	gone := a.d.remote
	x.setRemote(a.d, a.n)
	if a.kind == actRename {
		x.setRemote(a.from, nil)
		x.tidy(a.from)
	}
	if gone != nil && gone != a.n {
		x.reap(gone)
	}
	if n := a.n; n != nil && n.dead() { // removed here meanwhile
		for _, p := range n.places {
			if n.opens == 0 || !isAside(p.name) {
				x.ensureWorkOf(p, a.since())
			}
		}
	}
}

// attempt does what the action says, once.
func (x *Exclusive) attempt(a *action) error {
	c, err := x.link.getForever(x.ctx)
	if err != nil {
		return err
	}
	x.mu.Lock()
	err = x.certain()
	x.mu.Unlock()
	if err != nil {
		return err
	}
	if a.kind == actContent {
		return x.sendContent(c, a)
	}
	// While paths are written, no folder moves; a folder moves alone.
	alone := a.kind == actRename && a.typ == TypeDir
	if alone {
		x.paths.Lock()
		defer x.paths.Unlock()
	} else {
		x.paths.RLock()
		defer x.paths.RUnlock()
	}
	x.mu.Lock()
	if len(x.doubts) > 0 || x.fence != nil { // since the lock was taken
		err := x.fence
		x.mu.Unlock()
		if err != nil {
			return errFenced
		}
		return errLost
	}
	if a.kind == actAttr {
		return x.sendAttr(c, a) // which releases mu
	}
	p, ok := x.pathOf(a.d)
	from := ""
	if a.from != nil && ok {
		from, ok = x.pathOf(a.from)
	}
	mode := uint32(0)
	if a.n != nil {
		mode, a.target = a.n.attr.Mode&0o7777, a.n.target
	}
	if ok {
		err = x.intend(a)
	}
	x.mu.Unlock()
	if err != nil {
		return err
	}
	if !ok {
		return errLost // its folder moves: plan again
	}
	wire := c.pickSender().Session
	started := time.Now()
	err = x.onNames(wire, a, p, from, mode)
	if x.again(err) {
		c.fail()
		x.mu.Lock()
		x.doubted(a) // before anybody else sends a path
		x.mu.Unlock()
	} else {
		x.mu.Lock()
		x.window.answered(time.Now(), time.Since(started))
		x.stats.sent++
		if err == nil {
			x.placed(a)
		}
		x.mu.Unlock()
	}
	return x.explain(a, p, err)
}

// onNames sends the request of an action on names. It may have been done before,
// when the link was lost before the answer came: since nobody else changes
// anything, finding it done is as good as doing it.
func (x *Exclusive) onNames(wire *sftpwire.Session, a *action, p, from string, mode uint32) error {
	ctx := x.ctx
	switch a.kind {
	case actMkdir:
		// The owner needs to work in it until its own mode is set, at the end.
		err := wire.Mkdir(ctx, p, mode|0o700)
		if isFailure(err) && x.isThere(p, TypeDir) {
			return nil
		}
		return err
	case actSymlink:
		err := wire.Symlink(ctx, a.target, p)
		if isFailure(err) && x.isThere(p, TypeSymlink) {
			return nil
		}
		return err
	case actLink:
		if _, ok := wire.Extension(sftpwire.ExtHardlink); !ok {
			return syscall.EPERM
		}
		err := wire.Hardlink(ctx, from, p)
		if isFailure(err) && x.isThere(p, a.typ) {
			return nil
		}
		return err
	case actRename:
		err := x.renameTo(ctx, wire, from, p)
		if errors.Is(err, os.ErrNotExist) && x.isThere(p, a.typ) && !x.isThere(from, 0) {
			return nil
		}
		return err
	case actRemove:
		err := x.missing(ctx, wire.Remove(ctx, p))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	case actRmdir:
		err := x.missing(ctx, wire.Rmdir(ctx, p))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	panic("vfs: unknown action")
}

// renameTo renames and replaces. A server that cannot do so in one moment is told
// to remove the old file first.
func (x *Exclusive) renameTo(ctx context.Context, wire *sftpwire.Session, from, to string) error {
	if _, ok := wire.Extension(sftpwire.ExtPosixRename); ok {
		return wire.PosixRename(ctx, from, to)
	}
	err := wire.Rename(ctx, from, to)
	if isFailure(err) && x.isThere(to, TypeRegular) {
		if err := wire.Remove(ctx, to); err != nil {
			return err
		}
		return wire.Rename(ctx, from, to)
	}
	return err
}

// isThere reports whether the node has a file of a type (0: any) at a path.
func (x *Exclusive) isThere(p string, typ uint32) bool {
	st, err := statPath(x.ctx, x.link, p)
	return err == nil && (typ == 0 || st.Permissions&TypeMask == typ)
}

// sendAttr sends the attributes of an inode by its path. mu is held and released.
func (x *Exclusive) sendAttr(c *connection, a *action) error {
	n := a.n
	p, ok := x.remotePath(n)
	if !ok {
		x.mu.Unlock()
		return errLost // it is removed: plan again
	}
	mask, attr := n.send, n.attr
	if a.unlock {
		mode := attr.Mode&0o7777 | 0o700
		x.mu.Unlock()
		err := x.setOnNode(c, p, false, sftpwire.Attrs{Permissions: &mode})
		if isLost(err) {
			c.fail()
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		n.locked, n.unlocked = false, true
		return err
	}
	n.send, n.unlocked, n.pressed = 0, false, false
	seq := x.seq
	x.mu.Unlock()
	err := x.setOnNode(c, p, a.typ == TypeSymlink, x.wireAttrs(mask, attr))
	if isLost(err) {
		c.fail()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stats.sent++
	if err != nil {
		n.send |= mask
		return err
	}
	x.sends++
	n.sentAs = x.sends
	if n.data == nil || n.data.dirty.Empty() && n.data.flying.Empty() && !n.data.cut {
		x.noteSent(n, seq) // else its content is told with it
	}
	return nil
}

func (x *Exclusive) setOnNode(c *connection, p string, isLink bool, a sftpwire.Attrs) error {
	if a == (sftpwire.Attrs{}) {
		return nil
	}
	wire := c.pickSender().Session
	if isLink {
		a.Permissions = nil
		if _, ok := wire.Extension(sftpwire.ExtLSetstat); !ok {
			return nil // a link's times are nothing to fail for
		}
	}
	return x.explainPath(p, wire.Setstat(x.ctx, p, a, isLink))
}

// wireAttrs are the attributes in mask as SFTP carries them.
func (x *Exclusive) wireAttrs(mask attrMask, attr Attr) sftpwire.Attrs {
	var a sftpwire.Attrs
	if mask&sendMode != 0 {
		mode := attr.Mode & 0o7777
		a.Permissions = &mode
	}
	if mask&sendOwner != 0 {
		if uid, gid, err := x.view.owner(&attr.UID, &attr.GID); err == nil { // else refused by Setattr
			a.UID, a.GID = uid, gid
		}
	}
	if mask&sendTimes != 0 {
		at, mt := wireTime(attr.Atime), wireTime(attr.Mtime)
		a.Atime, a.Mtime = &at, &mt
	}
	if mask&sendSize != 0 {
		a.Size = &attr.Size
	}
	return a
}

// noteSent writes to the journal that the node has n as of change seq; mu is held.
func (x *Exclusive) noteSent(n *xnode, seq uint64) {
	x.tell(&record{Kind: recSent, Ino: n.ino, Seq: seq})
}
