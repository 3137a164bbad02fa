package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"bundlefs/internal/lease"
	"bundlefs/internal/remote"
)

// takeBackTime bounds the cleaning up after an opening that failed, which goes
// on when its context is done.
const takeBackTime = 30 * time.Second

// Open locks the bundle, makes the local folder and mounts it; see [Open].
func (b *Bundle) Open(ctx context.Context) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return b.openedBy(err)
	}
	defer release()
	fresh := b.state == nil
	if err := b.lockable(ctx); err != nil {
		return err
	}
	// It connects while we lock: a link with a long way is gone over once and not twice.
	mounter := b.early(ctx)
	defer mounter.drop()
	if err := b.Lock(ctx); err != nil {
		return err
	}
	err = b.MakeLocal(ctx)
	if err == nil {
		err = b.mount(ctx, mounter)
	}
	if err != nil && fresh {
		return errors.Join(err, b.takeBack(ctx))
	}
	return err
}

// openedBy turns an *InUseError into the *BlockedError that an opener gets
// who came second on the same workstation.
func (b *Bundle) openedBy(err error) error {
	var inUse *InUseError
	if !errors.As(err, &inUse) {
		return err
	}
	blocked := &BlockedError{Node: b.cfg.Node, Dir: b.cfg.Dir, Ours: true}
	if st, lerr := b.store.load(b.key()); lerr == nil && st != nil {
		blocked.Record, blocked.Since = &st.Record, st.Record.Time
		return blocked
	}
	rec := newRecord(&b.cfg)
	rec.PID, rec.Message = inUse.PID, inUse.Command
	blocked.Record, blocked.Since = rec, inUse.Since
	return blocked
}

// Lock makes the bundle on the node, or continues what an interrupted opening
// left of it. *BlockedError when somebody holds it, *NotFolderError when
// something else is at its path. When it fails it takes back what it made.
func (b *Bundle) Lock(ctx context.Context) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return b.openedBy(err)
	}
	defer release()
	if err := b.lockable(ctx); err != nil {
		return err
	}
	client, done, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := b.lock(ctx, client); err != nil {
		return err
	}
	b.log.Info("locked", "node", b.cfg.Node, "bundle", b.cfg.Dir)
	return nil
}

// lockable finds out what can be known here: whether there is any use in asking the node.
func (b *Bundle) lockable(ctx context.Context) error {
	st, ok := b.State()
	switch {
	case ok && st.Phase == PhaseClosing:
		return withHint(fmt.Errorf("bundle %s on %s: %w: closing it was interrupted", st.Dir, st.Node, ErrBlocked),
			fmt.Sprintf("finish it with 'conc close %s'", st.Node))
	case ok && st.Phase == PhaseOpen && b.Mounted(ctx):
		return &BlockedError{Node: st.Node, Dir: st.Dir, Record: &st.Record, Since: st.Record.Time, Ours: true}
	case ok && st.Phase == PhaseOpen && st.Spools != "":
		return usableSpools(st.Spools, st.Node, true)
	}
	spools, err := b.cfg.spoolsDir()
	if err != nil {
		return err
	}
	return usableSpools(spools, b.cfg.Node, false)
}

// lock is the part of opening that happens on the node.
func (b *Bundle) lock(ctx context.Context, client *remote.Client) error {
	var before *State // what is left of an earlier bundle, and goes with the next one
	st, ok := b.State()
	if ok {
		if st.Phase != PhaseRemoved {
			again, err := b.resume(ctx, client, &st)
			if err != nil || !again {
				return err
			}
		}
		if len(st.Local) > 0 {
			st.Phase = PhaseRemoved
			before = &st
		}
	}
	fresh, err := b.newState()
	if err != nil {
		return err
	}
	if before != nil {
		fresh.Local = before.Local
	}
	if err := b.setState(fresh); err != nil {
		return err
	}
	return b.makeRemote(ctx, client, fresh, before)
}

// newState is that of a bundle that is about to be locked.
func (b *Bundle) newState() (*State, error) {
	spools, err := b.cfg.spoolsDir()
	if err != nil {
		return nil, err
	}
	return &State{
		Phase: PhaseLocking, Node: b.cfg.Node, Target: b.cfg.Target.String(), Dir: b.cfg.Dir,
		Reach: b.cfg.Target, MountPoint: b.cfg.MountPoint, Spools: spools, Deploy: b.cfg.Deploy, Record: *newRecord(&b.cfg),
	}, nil
}

// resume looks at what an earlier opening left. again: there is nothing of it
// on the node, a new one is to be made.
func (b *Bundle) resume(ctx context.Context, client *remote.Client, st *State) (again bool, err error) {
	h, err := b.look(ctx, client, st)
	switch {
	case err != nil:
		return false, err
	case h.Record != nil && h.Token == st.Record.Token:
		return false, b.locked(st, h.Above)
	case h.unfinished && st.interrupted():
		return false, b.makeRemote(ctx, client, st, nil)
	case h.found:
		return false, h.blocked(b.cfg.Node, st.Dir)
	}
	// What is still mounted is that of a bundle which is gone.
	if err := b.unmount(ctx, false); err != nil {
		return false, err
	}
	if err := b.awaitEnd(ctx, b.place(st)); err != nil {
		return false, err
	}
	if at := st.spool(); at != "" {
		b.log.Warn("the bundle was gone from the node; what was not sent of it is kept", "node", st.Node, "spool", at)
	}
	return true, nil
}

// makeRemote makes the bundle with its record, or goes on with it. When that fails, nothing of it
// is on the node, and the state is as before; unless nobody knows, for then the state is kept.
func (b *Bundle) makeRemote(ctx context.Context, client *remote.Client, st, before *State) error {
	a, err := runWhole(ctx, client, lockScript, string(st.Record.encode()), "./"+st.Dir, st.Record.unfinishedName(), "./"+lease.Name(st.Record.Token, 1))
	if err != nil {
		return fmt.Errorf("make bundle %s on %s: %w", st.Dir, st.Node, err)
	}
	if a.words[0] != "made" {
		err := b.setState(before)
		if a.words[0] != "failed" {
			h, herr := a.holder(st.Node, st.Dir)
			if herr == nil {
				herr = h.blocked(st.Node, st.Dir)
			}
			return errors.Join(herr, err)
		}
		return errors.Join(withHint(fmt.Errorf("make bundle %s on %s: %w", st.Dir, st.Node, a.failure(lockFailures)),
			"look at free space, quota and permissions of the home folder on the node"), err)
	}
	err = b.locked(st, a.number(1))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		taking, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
		defer cancel()
		if terr := b.remove(taking, client, nil, st); terr != nil {
			return errors.Join(err, fmt.Errorf("take back: %w", terr))
		}
		return errors.Join(err, b.setState(before))
	}
	return nil
}

// locked notes that the bundle is ours, and that so many of the folders above it were made with it.
func (b *Bundle) locked(st *State, above int) error {
	st.Parents = mergeDirs(b.store.inherited(st.Dir, func(other *State) []string {
		if other.Target != st.Target {
			return nil
		}
		return other.Parents
	}), innermost(st.Dir, above))
	st.Phase = PhaseOpen
	return b.setState(st)
}

// innermost are so many of the folders above a bundle, outermost first.
func innermost(dir string, n int) []string {
	var list []string
	for dir = path.Dir(dir); dir != "." && len(list) < n; dir = path.Dir(dir) {
		list = append([]string{dir}, list...)
	}
	return list
}

// beginTime is how long after an interrupt a script may still begin.
const beginTime = time.Second

// lateCancel is ctx, but that it ends only some time after ctx does: sooner when begun is not closed.
func lateCancel(ctx context.Context, begun <-chan struct{}) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		soon, timer := time.NewTimer(beginTime), time.NewTimer(takeBackTime)
		defer soon.Stop()
		defer timer.Stop()
		select {
		case <-begun:
		case <-soon.C:
			cancel(context.Cause(ctx))
		case <-late.Done():
		}
		select {
		case <-timer.C:
			cancel(context.Cause(ctx))
		case <-late.Done():
		}
	})
	return late, func() { stop(); cancel(nil) }
}

// takeBack undoes a whole opening.
func (b *Bundle) takeBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	err := b.unmount(ctx, false)
	var left error
	if st, ok := b.State(); ok && err == nil {
		// The mount was not there long enough for anybody to write into it. What cannot be removed here
		// is no reason to leave the node locked.
		if err = b.awaitEnd(ctx, b.place(&st)); err == nil && st.spool() != "" {
			left = os.RemoveAll(st.spool())
		}
	}
	if err == nil {
		err = b.RemoveRemote(ctx)
	}
	if err == nil {
		err = b.forgetLocal(ctx)
	}
	if err = errors.Join(err, left); err != nil {
		return fmt.Errorf("take back: %w", err)
	}
	return nil
}
