package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"bundlefs/internal/control"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/version"
)

// Mount mounts the bundle on the local folder and returns when it can be
// used; without a mount point, the process that takes the mount's place is
// started. Where FUSE is not to be had the bundle goes on without a mount
// point, and the log says why. A mount of ours that is there and lives is kept, unless another version
// of this program made it: then there is a barrier, and it is mounted again. One whose process has
// died is replaced.
func (b *Bundle) Mount(ctx context.Context) error { return b.mount(ctx, nil) }

// mount is Mount with a mount program that was started already, or nil.
func (b *Bundle) mount(ctx context.Context, early *program) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, err := b.open()
	if err != nil {
		return err
	}
	ours, other, err := b.findMount(st)
	if err != nil {
		return err
	}
	answers, err := b.endHung(ctx, b.place(st))
	if err != nil {
		return err
	}
	switch {
	case other != nil:
		return withHint(fmt.Errorf("mount %s: something else is mounted there: %s %s", st.MountPoint, other.Type, other.Source),
			"unmount it, or set 'mount' in deploy.ini to another place: each node needs its own")
	case !ours:
		// Unmounted by somebody, it may still be sending.
		if err := b.awaitEnd(ctx, b.place(st)); err != nil {
			return err
		}
	case answers:
		another := b.anotherVersion(ctx, st)
		if another == "" {
			return nil
		}
		b.log.Info("mounting again: "+another, "node", b.cfg.Node)
		if err := b.unmount(ctx, true); err != nil {
			return fmt.Errorf("mount again, since %s: %w", another, err)
		}
	default:
		b.log.Info("replacing a mount whose process has died", "mount", st.MountPoint)
		if err := b.detach(st); err != nil {
			return err
		}
	}
	if st.Spools != "" {
		if err := usableSpools(st.Spools, st.Node, true); err != nil {
			return err
		}
	}
	if err := b.MakeLocal(ctx); err != nil { // also after the folder was removed by hand
		return err
	}
	err = b.runBundlefs(ctx, st, early)
	var without *noFUSEError
	if errors.As(err, &without) && ctx.Err() == nil {
		if err := b.unmountable(ctx, st); err != nil {
			return err
		}
		b.log.Warn(without.Error()+"; delivering without a mount", "node", b.cfg.Node)
		err = b.runBundlefs(ctx, st, nil)
	}
	if err != nil {
		return b.notMounted(ctx, st, err)
	}
	if ours, _, err := b.findMount(st); err != nil {
		return err
	} else if !ours {
		return fmt.Errorf("mount %s: bundlefs has ended without mounting", b.place(st))
	}
	b.log.Info("mounted", "node", b.cfg.Node, "mount", st.MountPoint)
	return nil
}

// notMounted asks the node why a mount may have failed: what we find out
// ourselves says more than the words of the mount program.
func (b *Bundle) notMounted(ctx context.Context, st *State, err error) error {
	if ctx.Err() != nil {
		return err
	}
	h, herr := b.Holder(ctx)
	switch {
	case herr != nil:
		return fmt.Errorf("mount %s: %w", b.place(st), herr)
	case !h.Ours:
		return b.lostLock(ctx, st)
	}
	return err
}

// awaitEnd waits until there is no mount program for a folder any more; one that does not answer is
// ended.
func (b *Bundle) awaitEnd(ctx context.Context, folder string) error {
	limit := time.NewTimer(sendTime)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		answers, err := b.endHung(ctx, folder)
		if err != nil || !answers {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return withHint(fmt.Errorf("mount %s: an earlier mount program does not end", folder), "wait, then try again")
		case <-tick.C:
		}
	}
}

// unmountable makes of a bundle that was to be mounted one without a mount point.
func (b *Bundle) unmountable(ctx context.Context, st *State) error {
	if err := b.RemoveLocal(ctx); err != nil {
		return err
	}
	st.Local, st.MountPoint = nil, None
	return b.setState(st)
}

// Mounted tells whether the bundle is mounted and its process answers.
func (b *Bundle) Mounted(ctx context.Context) bool {
	st, ok := b.State()
	if !ok {
		return false
	}
	ours, _, err := b.findMount(&st)
	return err == nil && ours && alive(ctx, b.place(&st))
}

// findMount tells whether the bundle is mounted on its local folder, or what
// else is (nil when nothing is). The folder itself is not asked: a mount whose
// link is down could let that hang. Without a mount point the process in the
// mount's place is looked for.
func (b *Bundle) findMount(st *State) (ours bool, other *mountpoint.Mount, err error) {
	if st.MountPoint == None {
		c, err := control.Dial(context.Background(), b.place(st)) // which nobody has to answer
		if err != nil {
			return false, nil, nil
		}
		return true, nil, c.Close()
	}
	path, err := control.Canonical(st.MountPoint)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	m, err := mountpoint.Find(path)
	if m != nil && strings.HasPrefix(m.Type, "fuse") && m.Source == st.source() {
		return true, nil, err
	}
	return false, m, err
}

// anotherVersion tells which, if another version of this program serves the mount; else "".
func (b *Bundle) anotherVersion(ctx context.Context, st *State) string {
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	var m MountStatus
	if status(ctx, b.place(st), &m) != nil {
		return ""
	}
	return m.another()
}

// another tells which, if another version of this program serves the mount; else "".
func (m *MountStatus) another() string {
	if m.Version == "" || m.Version == version.String() {
		return ""
	}
	return fmt.Sprintf("the mount is served by version %s, and this is %s", clean(m.Version), version.String())
}

// serverOf is the process that serves a mount, 0 when it does not tell.
func serverOf(ctx context.Context, folder string) int {
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	var m MountStatus
	if status(ctx, folder, &m) != nil {
		return 0
	}
	return m.PID
}

// unmountNow unmounts without a barrier, and without waiting for anything that
// the node would have to answer. The mount program ends by itself.
func (b *Bundle) unmountNow(ctx context.Context, st *State) error {
	if st.MountPoint == None {
		return request(ctx, b.place(st), "leave", nil, nil, nil)
	}
	path, err := control.Canonical(st.MountPoint)
	if err != nil {
		return err
	}
	return mountpoint.Unmount(path, false)
}

// Unmount is the barrier, and then the unmounting. Not mounted is no error. What
// a mount that has died has not sent is sent first, by mounting again.
// *BusyError when processes use the mount; the errors of the barrier are those of
// Sync: it stays mounted.
func (b *Bundle) Unmount(ctx context.Context) error { return b.unmount(ctx, true) }

func (b *Bundle) unmount(ctx context.Context, barrier bool) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, ok := b.State()
	if !ok {
		return nil
	}
	ours, _, err := b.findMount(&st)
	if err != nil {
		return err
	}
	point := b.place(&st) // deploy.ini may name another by now
	lives := false
	if ours {
		if lives, err = b.endHung(ctx, point); err != nil {
			return err
		}
		if st.MountPoint == None && !lives {
			ours = false // it was its process
		}
	}
	if barrier && !lives && st.Phase == PhaseOpen && st.spool() != "" {
		if err := b.Mount(ctx); err != nil {
			return fmt.Errorf("send what is only in the spool: %w", err)
		}
		ours, lives = true, true
		st, _ = b.State() // it may have lost its mount point
		point = b.place(&st)
	}
	switch {
	case !ours:
		return nil
	case !lives:
		err = b.detach(&st)
	case barrier:
		err = b.barrier(ctx, &st, "unmount", nil, "unmounted", b.cfg.Progress)
	default:
		err = b.unmountNow(ctx, &st)
	}
	if errors.Is(err, syscall.EBUSY) {
		return busy(point, serverOf(ctx, point))
	}
	if err != nil {
		// The program may end before its answer is read, or have died just now.
		switch ours, _, merr := b.findMount(&st); {
		case merr != nil, ours && alive(ctx, point), ours && barrier:
			return err
		case ours:
			if err := b.detach(&st); err != nil {
				return err
			}
		}
	}
	if barrier {
		if unsent := b.allSent(ctx, &st); unsent != nil {
			return cmp.Or(err, unsent)
		}
	}
	b.log.Info("unmounted", "node", b.cfg.Node, "mount", point)
	return nil
}

// allSent proves after an unmount that nothing was written between its barrier
// and its end that could not be sent any more.
func (b *Bundle) allSent(ctx context.Context, st *State) error {
	if err := b.awaitEnd(ctx, b.place(st)); err != nil {
		return err
	}
	if at := st.spool(); at != "" {
		return withHint(fmt.Errorf("%s is unmounted, but not all of it is on the node: the rest is kept in %s", b.place(st), at),
			fmt.Sprintf("'conc mount %s' goes on sending it", st.Node))
	}
	return nil
}

// detach removes a mount that nobody serves any more. The folder stays closed.
func (b *Bundle) detach(st *State) error {
	if st.MountPoint == None {
		return nil
	}
	path, err := control.Canonical(st.MountPoint)
	if err != nil {
		return err
	}
	return mountpoint.Unmount(path, true)
}

// reopen opens the local folder again, which a killed mount program leaves
// closed.
func reopen(folder string) error {
	path, err := control.Canonical(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = mountpoint.Recover(path)
	}
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	return nil
}
