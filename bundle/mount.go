package bundle

import (
	"bytes"
	"context"
	"encoding/json"
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
)

// Mount mounts the bundle on the local folder and returns when it can be
// used. A mount of ours that is there and lives is kept; one whose process has
// died is replaced.
func (b *Bundle) Mount(ctx context.Context) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, err := b.open()
	if err != nil || st.MountPoint == None {
		return err
	}
	ours, other, err := findMount(st)
	if err != nil {
		return err
	}
	switch {
	case other != nil:
		return withHint(fmt.Errorf("mount %s: something else is mounted there: %s %s", st.MountPoint, other.Type, other.Source),
			"unmount it, or set 'mount' in deploy.ini to another place: each node needs its own")
	case !ours:
	case alive(st.MountPoint):
		return nil
	default:
		b.log.Info("replacing a mount whose process has died", "mount", st.MountPoint)
		if err := detach(st.MountPoint); err != nil {
			return err
		}
	}
	if err := b.MakeLocal(ctx); err != nil { // also after the folder was removed by hand
		return err
	}
	if err := b.runBundlefs(ctx, st); err != nil {
		return err
	}
	if ours, _, err := findMount(st); err != nil {
		return err
	} else if !ours {
		return fmt.Errorf("mount %s: bundlefs has ended without mounting", st.MountPoint)
	}
	b.log.Info("mounted", "node", b.cfg.Node, "mount", st.MountPoint)
	return nil
}

// runBundlefs starts the mount program, which goes to the background by itself
// when the mount is ready. It may ask for passwords on the terminal until then.
func (b *Bundle) runBundlefs(ctx context.Context, st *State) error {
	name, args := "/proc/self/exe", []string{"bundlefs"}
	if c := b.cfg.BundlefsCommand; len(c) > 0 {
		name, args = c[0], c
	}
	args = append(append([]string(nil), args...), BundlefsArgs(b.cfg.Target, b.cfg.Dir, st.MountPoint, st.mountOptions()...)...)
	// A file, not a pipe: nobody would have to wait for its other end.
	fd, err := unix.MemfdCreate("bundlefs-messages", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	messages := os.NewFile(uintptr(fd), "bundlefs-messages")
	defer messages.Close()
	cmd := exec.CommandContext(ctx, name)
	cmd.Args = args
	cmd.Stdout, cmd.Stderr = messages, messages
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	err = cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		// It may have got as far as mounting when it was told to end.
		if ours, _, merr := findMount(st); merr == nil && ours {
			err = errors.Join(err, detach(st.MountPoint))
		}
		return errors.Join(ctx.Err(), fmt.Errorf("mount %s: %w", st.MountPoint, err))
	}
	text, _ := io.ReadAll(io.LimitReader(io.NewSectionReader(messages, 0, 1<<16), 1<<16))
	return mountFailure(st.MountPoint, err, text)
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
	if !ok || st.MountPoint == None {
		return false
	}
	ours, _, err := findMount(&st)
	return err == nil && ours && alive(st.MountPoint)
}

// findMount tells whether the bundle is mounted on its local folder, or what
// else is (nil when nothing is). The folder itself is not asked: a mount whose
// link is down could let that hang.
func findMount(st *State) (ours bool, other *mountpoint.Mount, err error) {
	if st.MountPoint == None {
		return false, nil, nil
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

// Progress is how far a barrier has come; numbers that are not known are 0.
type Progress struct {
	Files int64 `json:"files"` // files to go
	Bytes int64 `json:"bytes"` // bytes to go
}

// Sync is the barrier: it returns when all that was written into the mount is
// on the node, or with what the node refused. progress may be nil.
func (b *Bundle) Sync(ctx context.Context, progress func(Progress)) error {
	return b.ask(ctx, "sync", func(raw json.RawMessage) {
		var p Progress
		if progress != nil && json.Unmarshal(raw, &p) == nil {
			progress(p)
		}
	})
}

// Drop makes the mount forget what it knows of the node's content, so that
// what a remote step wrote is seen at once.
func (b *Bundle) Drop(ctx context.Context) error { return b.ask(ctx, "drop", nil) }

// ask sends one request to the mount program; a bundle that is not to be
// mounted has nothing to be asked.
func (b *Bundle) ask(ctx context.Context, op string, progress func(json.RawMessage)) error {
	st, err := b.open()
	if err != nil || st.MountPoint == None {
		return err
	}
	err = request(ctx, st.MountPoint, op, nil, progress)
	if errors.Is(err, control.ErrNotMounted) {
		return withHint(err, fmt.Sprintf("mount it again with 'conc mount %s'", b.cfg.Node))
	}
	return err
}

func request(ctx context.Context, folder, op string, result any, progress func(json.RawMessage)) error {
	c, err := control.Dial(ctx, folder)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, op, nil, result, progress)
}

// serverOf is the process that serves a mount, 0 when it does not tell.
func serverOf(ctx context.Context, folder string) int {
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	var status struct {
		PID int `json:"pid"`
	}
	if request(ctx, folder, "status", &status, nil) != nil {
		return 0
	}
	return status.PID
}

// unmountNow unmounts without a barrier, and without waiting for anything that
// the node would have to answer. The mount program ends by itself.
func unmountNow(folder string) error {
	path, err := control.Canonical(folder)
	if err != nil {
		return err
	}
	return mountpoint.Unmount(path, false)
}

// Unmount is the barrier, and then the unmounting. Not mounted is no error.
// *BusyError when processes use the mount; a refused barrier leaves it mounted.
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
	point := st.MountPoint // deploy.ini may name another by now
	ours, _, err := findMount(&st)
	if err != nil || !ours {
		return err
	}
	if !alive(point) {
		err = detach(point)
	} else if barrier {
		err = request(ctx, point, "unmount", nil, nil) // has the barrier in it
	} else {
		err = unmountNow(point)
	}
	if errors.Is(err, syscall.EBUSY) {
		return &BusyError{MountPoint: point, Users: users(point, serverOf(ctx, point))}
	}
	if err != nil {
		// The program may end before its answer is read, or have died just now.
		if ours, _, merr := findMount(&st); merr != nil || ours && alive(point) {
			return err
		} else if ours {
			if err := detach(point); err != nil {
				return err
			}
		}
	}
	b.log.Info("unmounted", "node", b.cfg.Node, "mount", point)
	return nil
}

// detach removes a mount that nobody serves any more, and what it left.
func detach(folder string) error {
	path, err := control.Canonical(folder)
	if err != nil {
		return err
	}
	if err := mountpoint.Unmount(path, true); err != nil {
		return err
	}
	return reopen(folder)
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
