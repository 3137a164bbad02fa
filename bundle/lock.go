package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"
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
	if err := b.Lock(ctx); err != nil {
		return err
	}
	err = b.MakeLocal(ctx)
	if err == nil {
		err = b.Mount(ctx)
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
	if st, ok := b.State(); ok {
		switch {
		case st.Phase == PhaseClosing:
			return withHint(fmt.Errorf("bundle %s on %s: %w: closing it was interrupted", st.Dir, st.Node, ErrBlocked),
				fmt.Sprintf("finish it with 'conc close %s'", st.Node))
		case st.Phase == PhaseOpen && b.Mounted(ctx):
			return &BlockedError{Node: st.Node, Dir: st.Dir, Record: &st.Record, Since: st.Record.Time, Ours: true}
		}
	}
	client, done, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	node, err := client.SFTP(ctx)
	if err != nil {
		return fmt.Errorf("lock %s: sftp: %w", b.cfg.Dir, err)
	}
	defer node.Close()
	// A request that is under way is not cut off when ctx ends: whether it was
	// done has to be known. The connection's keepalive bounds it.
	l := &locking{b: b, node: node}
	if err := l.run(ctx); err != nil {
		return err
	}
	b.log.Info("locked", "node", b.cfg.Node, "bundle", b.cfg.Dir)
	return nil
}

// locking is the part of opening that happens on the node.
type locking struct {
	b    *Bundle
	node *sftp.Client
}

func (l *locking) run(ctx context.Context) error {
	st, ok := l.b.State()
	local := st.Local // made for an earlier bundle, and to be removed with this one
	if ok && st.Phase != PhaseRemoved {
		again, err := l.resume(&st)
		if err != nil || !again {
			return err
		}
		// What is still mounted is that of a bundle which is gone.
		if err := l.b.unmount(ctx, false); err != nil {
			return err
		}
		if err := awaitEnd(ctx, l.b.place(&st)); err != nil {
			return err
		}
		if at := st.spool(); at != "" {
			l.b.log.Warn("the bundle was gone from the node; what was not sent of it is kept", "node", st.Node, "spool", at)
		}
	}
	cache, err := l.b.cfg.cacheDir()
	if err != nil {
		return err
	}
	rec := newRecord(&l.b.cfg)
	st = State{
		Phase: PhaseLocking, Node: l.b.cfg.Node, Target: l.b.cfg.Target.String(), Dir: l.b.cfg.Dir,
		Reach: l.b.cfg.Target, MountPoint: l.b.cfg.MountPoint, Cache: cache, Deploy: l.b.cfg.Deploy, Record: *rec, Local: local,
	}
	if err := l.b.setState(&st); err != nil {
		return err
	}
	made, err := l.mkdir(&st)
	if err == nil {
		st.Parents = mergeDirs(l.b.store.inherited(st.Dir, func(other *State) []string {
			if other.Target != st.Target {
				return nil
			}
			return other.Parents
		}), st.Parents)
		st.Phase = PhaseMade
		err = errors.Join(l.b.setState(&st), ctx.Err())
	}
	if err == nil {
		if err = l.write(&st.Record); err == nil {
			st.Phase = PhaseOpen
			if err = errors.Join(l.b.setState(&st), ctx.Err()); err != nil {
				l.node.Remove(path.Join(st.Dir, RecordName)) // taken back below
			}
		}
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, l.takeBack(&st, made))
}

// resume looks at what an earlier opening left. again: there is nothing of it
// on the node, a new one is to be made.
func (l *locking) resume(st *State) (again bool, err error) {
	rec, err := readRecord(l.node, l.b.cfg.Node, st.Dir)
	switch {
	case err != nil:
		return false, err
	case rec.found && rec.Record != nil && rec.Token == st.Record.Token:
		st.Phase = PhaseOpen
		return false, l.b.setState(st)
	case !rec.found:
		return true, nil
	case st.Phase == PhaseMade && rec.absent:
		// We made the folder and were interrupted before the record. Creating
		// it now is a claim that at most one can win.
		if err := l.write(&st.Record); err != nil {
			return false, err
		}
		st.Phase = PhaseOpen
		return false, l.b.setState(st)
	}
	return false, rec.blocked(l.b.cfg.Node, st.Dir)
}

// mkdir makes the bundle, and the folders above it where they are missing.
func (l *locking) mkdir(st *State) (made bool, err error) {
	for range 8 {
		err = l.node.Mkdir(st.Dir)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// Somebody who closes may remove a parent between these two: again.
		if perr := l.parents(st); perr != nil {
			return false, fmt.Errorf("make bundle %s on %s: %w", st.Dir, st.Node, perr)
		}
	}
	// sftp-server says FAILURE for whatever is not "no such file" or
	// "permission denied": find out the cause.
	held, rerr := readRecord(l.node, st.Node, st.Dir)
	switch {
	case rerr != nil:
		return false, rerr
	case held.found:
		return false, held.blocked(st.Node, st.Dir)
	}
	return false, withHint(fmt.Errorf("make bundle %s on %s: %w", st.Dir, st.Node, err),
		"look at free space, quota and permissions of the home folder on the node")
}

// parents makes what is missing above the bundle and notes it in the state.
func (l *locking) parents(st *State) error {
	var missing []string
	for dir := path.Dir(st.Dir); dir != "."; dir = path.Dir(dir) {
		info, err := l.node.Stat(dir)
		if err == nil {
			if !info.IsDir() {
				return fmt.Errorf("%s is not a folder", dir)
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", dir, err)
		}
		missing = append([]string{dir}, missing...)
	}
	for _, dir := range missing {
		err := l.node.Mkdir(dir)
		if err == nil {
			st.Parents = append(st.Parents, dir)
			if err := l.b.setState(st); err != nil {
				return err
			}
			continue
		}
		if info, serr := l.node.Stat(dir); serr != nil || !info.IsDir() {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	return nil
}

// write creates the owner record, which at most one can do.
func (l *locking) write(rec *Record) error {
	dir, name := l.b.cfg.Dir, path.Join(l.b.cfg.Dir, RecordName)
	f, err := l.node.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		held, rerr := readRecord(l.node, l.b.cfg.Node, dir)
		if rerr == nil && held.found && !held.absent {
			return held.blocked(l.b.cfg.Node, dir)
		}
		return fmt.Errorf("write owner record %s on %s: %w", name, l.b.cfg.Node, err)
	}
	err = f.Chmod(0o600) // before there is anything in it to be read
	if err == nil {
		_, err = f.Write(rec.encode())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		l.node.Remove(name) // ours: it was created here
		return withHint(fmt.Errorf("write owner record %s on %s: %w", name, l.b.cfg.Node, err),
			"look at free space and quota on the node")
	}
	return nil
}

// takeBack removes what a failed locking made: nothing is removed that is not
// empty, so another's bundle cannot be hit. Without a connection the state is
// kept, so that opening again or closing can go on.
func (l *locking) takeBack(st *State, made bool) error {
	if made {
		if err := l.node.RemoveDirectory(st.Dir); err != nil {
			held, rerr := readRecord(l.node, st.Node, st.Dir)
			if rerr != nil {
				return fmt.Errorf("take back %s: %w", st.Dir, rerr)
			}
			if held.found && (held.Record == nil || held.Token == st.Record.Token) {
				return fmt.Errorf("take back %s: %w", st.Dir, err)
			}
		}
	}
	for i := len(st.Parents) - 1; i >= 0; i-- {
		if l.node.RemoveDirectory(st.Parents[i]) != nil {
			break // used by somebody else meanwhile
		}
	}
	return l.b.setState(nil)
}

// takeBack undoes a whole opening.
func (b *Bundle) takeBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	err := b.unmount(ctx, false)
	if st, ok := b.State(); ok && err == nil {
		// The mount was not there long enough for anybody to write into it.
		err = awaitEnd(ctx, b.place(&st))
		if err == nil && st.spool() != "" {
			err = os.RemoveAll(st.spool())
		}
	}
	if err == nil {
		err = b.Close(ctx)
	}
	if err != nil {
		return fmt.Errorf("take back: %w", err)
	}
	return nil
}

// setState notes st here and on the disk; nil: the bundle is not ours.
func (b *Bundle) setState(st *State) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st == nil {
		b.state = nil
		return b.store.remove(b.key())
	}
	c := *st
	if err := b.store.save(b.key(), &c); err != nil {
		return err
	}
	b.state = &c
	return nil
}

// holder is what was found at a bundle's path on the node.
type holder struct {
	*Record           // nil: unknown
	found   bool      // there is a folder
	absent  bool      // it has no record file
	since   time.Time // of the record, or the folder's mtime
	reason  string    // why the record is nil
}

func (h *holder) blocked(node, dir string) error {
	return &BlockedError{Node: node, Dir: dir, Record: h.Record, Since: h.since, Reason: h.reason}
}

// readRecord looks who holds dir. Not finding it, or not being able to read
// the record, is no error; something else than a folder is *NotFolderError.
func readRecord(node *sftp.Client, name, dir string) (*holder, error) {
	info, err := node.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &holder{}, nil
	case err != nil:
		return nil, fmt.Errorf("look at bundle %s on %s: %w", dir, name, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, &NotFolderError{name, dir, "a symbolic link"}
	case !info.IsDir():
		return nil, &NotFolderError{name, dir, "something that is not a folder"}
	}
	h := &holder{found: true, since: info.ModTime()}
	rec, err := fetchRecord(node, path.Join(dir, RecordName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.absent, h.reason = true, "it has no owner record"
	case errors.Is(err, fs.ErrPermission):
		h.reason = "its owner record is another user's"
	case err != nil:
		h.reason = clean(err.Error())
	default:
		h.Record = rec
		if !rec.Time.IsZero() {
			h.since = rec.Time
		}
	}
	return h, nil
}

func fetchRecord(node *sftp.Client, name string) (*Record, error) {
	// Opening anything but a file could block the server: a fifo.
	info, err := node.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("its owner record is not a file")
	}
	f, err := node.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("its owner record cannot be read: %w", err)
	}
	return parseRecord(data)
}
