package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/control"
	"bundlefs/internal/mountpoint"
)

const (
	aliveTime = 5 * time.Second  // how long a mount may take to answer whether it lives
	endTime   = 10 * time.Second // how long a mount program may take to end
	sendTime  = 40 * time.Second // how long one may go on sending that was unmounted by others
)

// Mount mounts the bundle on the local folder and returns when it can be
// used; without a mount point, the process that takes the mount's place is
// started. Where FUSE is not to be had the bundle goes on without a mount
// point, and the log says why. A mount of ours that is there and lives is kept; one whose process has
// died is replaced.
func (b *Bundle) Mount(ctx context.Context) error {
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
	switch {
	case other != nil:
		return withHint(fmt.Errorf("mount %s: something else is mounted there: %s %s", st.MountPoint, other.Type, other.Source),
			"unmount it, or set 'mount' in deploy.ini to another place: each node needs its own")
	case !ours:
		// Unmounted by somebody, it may still be sending.
		if err := awaitEnd(ctx, b.place(st)); err != nil {
			return err
		}
	case alive(b.place(st)):
		return nil
	default:
		b.log.Info("replacing a mount whose process has died", "mount", st.MountPoint)
		if err := b.detach(st); err != nil {
			return err
		}
	}
	if err := b.MakeLocal(ctx); err != nil { // also after the folder was removed by hand
		return err
	}
	err = b.runBundlefs(ctx, st)
	var without *noFUSEError
	if errors.As(err, &without) && ctx.Err() == nil {
		if err := b.unmountable(ctx, st); err != nil {
			return err
		}
		b.log.Warn(without.Error()+"; delivering without a mount", "node", b.cfg.Node)
		err = b.runBundlefs(ctx, st)
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

// awaitEnd waits until no mount program answers for a folder any more.
func awaitEnd(ctx context.Context, folder string) error {
	limit := time.NewTimer(sendTime)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(folder) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return withHint(fmt.Errorf("mount %s: an earlier mount program does not end", folder), "wait, then try again")
		case <-tick.C:
		}
	}
	return nil
}

// runBundlefs starts the mount program, which goes to the background by itself
// when the mount is ready. It may ask for passwords on the terminal until then.
func (b *Bundle) runBundlefs(ctx context.Context, st *State) error {
	name, args := "/proc/self/exe", []string{"bundlefs"}
	if c := b.cfg.BundlefsCommand; len(c) > 0 {
		name, args = c[0], c
	}
	args = append(append([]string(nil), args...), BundlefsArgs(b.cfg.Target, b.cfg.Dir, b.place(st), st.mountOptions()...)...)
	// A file, not a pipe: nobody would have to wait for its other end.
	fd, err := unix.MemfdCreate("bundlefs-messages", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	messages := os.NewFile(uintptr(fd), "bundlefs-messages")
	defer messages.Close()
	cmd := exec.CommandContext(ctx, name)
	cmd.Args = args
	if st.Cache != "" { // where its spool is, whatever the environment says today
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+st.Cache)
	}
	cmd.Stdout, cmd.Stderr = messages, messages
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	err = cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		// It may have got as far as mounting when it was told to end.
		if ours, _, merr := b.findMount(st); merr == nil && ours {
			err = errors.Join(err, b.detach(st))
		}
		return errors.Join(ctx.Err(), fmt.Errorf("mount %s: %w", b.place(st), err))
	}
	text, _ := io.ReadAll(io.LimitReader(io.NewSectionReader(messages, 0, 1<<16), 1<<16))
	said := mountFailure(b.place(st), err, text)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == control.ExitNoFUSE {
		return &noFUSEError{said}
	}
	return said
}

// noFUSEError is bundlefs's when the workstation does not let us mount.
type noFUSEError struct{ err error }

func (e *noFUSEError) Error() string { return "no FUSE here: " + e.err.Error() }
func (e *noFUSEError) Unwrap() error { return e.err }

// unmountable makes of a bundle that was to be mounted one without a mount point.
func (b *Bundle) unmountable(ctx context.Context, st *State) error {
	if err := b.RemoveLocal(ctx); err != nil {
		return err
	}
	st.Local, st.MountPoint = nil, None
	return b.setState(st)
}

// mountFailure makes an error of what bundlefs printed: "bundlefs: …" lines,
// and "bundlefs: hint: …" lines.
func mountFailure(mountpoint string, err error, text []byte) error {
	var msgs, hints []string
	for line := range bytes.Lines(text) {
		s := strings.TrimPrefix(clean(string(line)), "bundlefs: ")
		if hint, ok := strings.CutPrefix(s, "hint: "); ok {
			hints = append(hints, hint)
		} else if s != "" {
			msgs = append(msgs, s)
		}
	}
	if len(msgs) == 0 {
		return fmt.Errorf("mount %s: bundlefs: %w", mountpoint, err)
	}
	err = fmt.Errorf("mount %s: %s", mountpoint, strings.Join(msgs, "; "))
	if len(hints) > 0 {
		err = withHint(err, strings.Join(hints, "\n"))
	}
	return err
}

// Mounted tells whether the bundle is mounted and its process answers.
func (b *Bundle) Mounted(ctx context.Context) bool {
	st, ok := b.State()
	if !ok {
		return false
	}
	ours, _, err := b.findMount(&st)
	return err == nil && ours && alive(b.place(&st))
}

// findMount tells whether the bundle is mounted on its local folder, or what
// else is (nil when nothing is). The folder itself is not asked: a mount whose
// link is down could let that hang. Without a mount point the process in the
// mount's place is looked for.
func (b *Bundle) findMount(st *State) (ours bool, other *mountpoint.Mount, err error) {
	if st.MountPoint == None {
		return alive(b.place(st)), nil, nil
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

// alive tells whether the process that serves a mount answers.
func alive(mountpoint string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), aliveTime)
	defer cancel()
	c, err := control.Dial(ctx, mountpoint)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// serverOf is the process that serves a mount, 0 when it does not tell.
func serverOf(ctx context.Context, folder string) int {
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	var m MountStatus
	if request(ctx, folder, "status", nil, &m, nil) != nil {
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
	lives := ours && alive(point)
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
		err = b.barrier(ctx, &st, "unmount", "unmounted", b.cfg.Progress)
	default:
		err = b.unmountNow(ctx, &st)
	}
	if errors.Is(err, syscall.EBUSY) {
		return &BusyError{MountPoint: point, Users: users(point, serverOf(ctx, point))}
	}
	if err != nil {
		// The program may end before its answer is read, or have died just now.
		switch ours, _, merr := b.findMount(&st); {
		case merr != nil, ours && alive(point), ours && barrier:
			return err
		case ours:
			if err := b.detach(&st); err != nil {
				return err
			}
		}
	}
	if barrier {
		if err := b.allSent(ctx, &st); err != nil {
			return err
		}
	}
	b.log.Info("unmounted", "node", b.cfg.Node, "mount", point)
	return nil
}

// allSent proves after an unmount that nothing was written between its barrier
// and its end that could not be sent any more.
func (b *Bundle) allSent(ctx context.Context, st *State) error {
	if err := awaitEnd(ctx, b.place(st)); err != nil {
		return err
	}
	if at := st.spool(); at != "" {
		return withHint(fmt.Errorf("%s is unmounted, but not all of it is on the node: the rest is kept in %s", b.place(st), at),
			fmt.Sprintf("'conc mount %s' goes on sending it", st.Node))
	}
	return nil
}

// detach removes a mount that nobody serves any more, and what it left.
func (b *Bundle) detach(st *State) error {
	if st.MountPoint == None {
		return nil
	}
	path, err := control.Canonical(st.MountPoint)
	if err != nil {
		return err
	}
	if err := mountpoint.Unmount(path, true); err != nil {
		return err
	}
	return reopen(st.MountPoint)
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
