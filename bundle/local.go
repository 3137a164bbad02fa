package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// MakeLocal makes the local folder that the bundle will be mounted on, with
// its parents, and notes in the state which of them it made. It must be empty.
func (b *Bundle) MakeLocal(ctx context.Context) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, err := b.open()
	if err != nil || st.MountPoint == None {
		return err
	}
	ours, other, err := b.findMount(st)
	if err != nil || ours || other != nil {
		return err // Mount tells what it thinks of another one
	}
	var missing []string
	for dir := st.MountPoint; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return withHint(fmt.Errorf("mount point %s: %s is not a folder", st.MountPoint, dir), "remove it, or set 'mount' in deploy.ini to another place")
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mount point: %w", err)
		}
		missing = append([]string{dir}, missing...)
	}
	if err := reopen(st.MountPoint); err != nil {
		return err
	}
	if len(missing) == 0 {
		return checkEmpty(st.MountPoint)
	}
	shared := b.store.inherited(st.MountPoint, func(other *State) []string { return other.Local })
	// Noted before they are made: closing removes only what is empty anyway.
	st.Local = mergeDirs(st.Local, append(shared, missing...))
	if err := b.setState(st); err != nil {
		return err
	}
	if err := os.MkdirAll(st.MountPoint, 0o700); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	return nil
}

func checkEmpty(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	if len(names) > 0 {
		return withHint(fmt.Errorf("mount point %s: not empty: it holds %q", dir, names[0]),
			"move what is in it away: it would be hidden by the mount; or set 'mount' in deploy.ini to another place")
	}
	return nil
}

func mergeDirs(have, more []string) []string {
	list := append([]string(nil), have...)
	for _, m := range more {
		if !slices.Contains(have, m) {
			list = append(list, m)
		}
	}
	return list
}

// RemoveLocal removes the local folders that MakeLocal made, as far as they
// are empty; nothing is ever removed recursively here. Nothing may be mounted.
func (b *Bundle) RemoveLocal(ctx context.Context) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, ok := b.State()
	if !ok || st.MountPoint == None {
		return nil
	}
	ours, other, err := b.findMount(&st)
	if err != nil {
		return err
	}
	if ours {
		return &MountedError{MountPoint: st.MountPoint}
	}
	if other != nil {
		st.Local = nil // it is somebody else's now
	}
	if err := reopen(st.MountPoint); err != nil {
		return err
	}
	for i := len(st.Local) - 1; i >= 0; i-- {
		err := os.Remove(st.Local[i])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			// Parents are often shared; what is in the folder itself is worth a word.
			if st.Local[i] == st.MountPoint {
				b.log.Warn("local folder is kept", "folder", st.MountPoint, "reason", err)
			}
			break
		}
	}
	if st.Phase == PhaseRemoved {
		return b.setState(nil)
	}
	if len(st.Local) == 0 {
		return nil
	}
	st.Local = nil
	return b.setState(&st)
}

// open gives a copy of the state of a bundle that is open.
func (b *Bundle) open() (*State, error) {
	st, ok := b.State()
	switch {
	case !ok:
		return nil, withHint(fmt.Errorf("bundle %s on %s: %w", b.cfg.Dir, b.cfg.Node, ErrNotOpen), fmt.Sprintf("open it with 'conc open %s'", b.cfg.Node))
	case st.Phase == PhaseClosing:
		return nil, withHint(fmt.Errorf("bundle %s on %s: %w: closing it was interrupted", st.Dir, st.Node, ErrNotOpen), fmt.Sprintf("finish it with 'conc close %s'", st.Node))
	case st.Phase == PhaseRemoved:
		return nil, withHint(fmt.Errorf("bundle %s on %s: %w: it was removed on the node", st.Dir, st.Node, ErrNotOpen), fmt.Sprintf("finish closing it with 'conc close %s'", st.Node))
	case st.Phase != PhaseOpen:
		return nil, withHint(fmt.Errorf("bundle %s on %s: %w: opening it was interrupted", st.Dir, st.Node, ErrNotOpen), fmt.Sprintf("finish it with 'conc open %s', or take it back with 'conc close %s'", st.Node, st.Node))
	}
	return &st, nil
}
