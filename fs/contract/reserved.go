package contract

import (
	"path"
	"strings"
	"syscall"
)

// refusing is a Tree that gives nothing a name that is reserved, as the file systems here: EPERM, where
// another name would do.
type refusing struct{ Tree }

func reserved(p string) bool { return strings.HasPrefix(path.Base(p), ".bundlefs~") }

// try makes a name, or finds out what speaks against that beside the name itself: by another name in
// the same folder, which undo takes away again.
func (r refusing) try(p string, makes, undo func(p string) error) error {
	if !reserved(p) {
		return makes(p)
	}
	other := path.Join(path.Dir(p), "free~")
	if err := makes(other); err != nil {
		return err
	}
	if err := undo(other); err != nil {
		return err
	}
	return syscall.EPERM
}

func (r refusing) Mkdir(p string, mode uint32) error {
	return r.try(p, func(p string) error { return r.Tree.Mkdir(p, mode) }, r.Tree.Rmdir)
}

func (r refusing) Symlink(target, p string) error {
	return r.try(p, func(p string) error { return r.Tree.Symlink(target, p) }, r.Tree.Unlink)
}

func (r refusing) Link(oldPath, newPath string) error {
	return r.try(newPath, func(p string) error { return r.Tree.Link(oldPath, p) }, r.Tree.Unlink)
}

func (r refusing) Rename(oldPath, newPath string, noReplace bool) error {
	return r.try(newPath, func(p string) error { return r.Tree.Rename(oldPath, p, noReplace) },
		func(p string) error { return r.Tree.Rename(p, oldPath, false) })
}

func (r refusing) Open(p string, flags int, mode uint32) (f File, err error) {
	if flags&syscall.O_CREAT == 0 {
		return r.Tree.Open(p, flags, mode)
	}
	err = r.try(p, func(p string) (err error) {
		f, err = r.Tree.Open(p, flags, mode)
		return err
	}, func(p string) error {
		f.Close()
		return r.Tree.Unlink(p)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}
