package vfs

import (
	"errors"
	"path"
	"syscall"

	"bundlefs/internal/sftpwire"
)

// explain finds out what a server meant by FAILURE, and says what failed.
func (x *Exclusive) explain(a *action, p string, err error) error {
	if err = x.missing(x.ctx, err); err == nil || x.again(err) {
		return err
	}
	op := [...]string{"mkdir", "symlink", "link", "rename", "unlink", "rmdir", "write", "setattr"}[a.kind]
	if isFailure(err) {
		err = x.cause(a, p, err)
	}
	return &Error{op, p, err}
}

func (x *Exclusive) explainPath(p string, err error) error {
	return x.explain(&action{kind: actAttr}, p, err)
}

// cause asks what is in the way, and for the room that there is.
func (x *Exclusive) cause(a *action, p string, err error) error {
	if errno := x.inTheWay(a, p); errno != 0 {
		return errno
	}
	v := statvfs(x.ctx, x.link, path.Dir(p))
	const readOnly = 1
	switch {
	case v == nil:
	case v.Flag&readOnly != 0:
		return syscall.EROFS
	case a.kind == actRemove || a.kind == actRmdir:
	case v.Blocks > 0 && saneStatFS(v).bytesLeft() < max(a.bytes, 1), v.Files > 0 && v.Favail == 0:
		return syscall.ENOSPC
	}
	return err
}

// inTheWay is why an action cannot have the name p, or take it away, as it is on the
// node; 0 if it could.
func (x *Exclusive) inTheWay(a *action, p string) syscall.Errno {
	st, err := statPath(x.ctx, x.link, p)
	if err != nil {
		return 0
	}
	isDir := saneMode(st.Permissions)&TypeMask == TypeDir
	switch a.kind {
	case actMkdir, actSymlink, actLink:
		return syscall.EEXIST
	case actContent, actRemove:
		if isDir {
			return syscall.EISDIR
		}
	case actRmdir:
		if !isDir {
			return syscall.ENOTDIR
		}
		if x.hasEntries(p) {
			return syscall.ENOTEMPTY
		}
	case actRename:
		switch fromDir := a.typ == TypeDir; {
		case isDir && !fromDir:
			return syscall.EISDIR
		case fromDir && !isDir:
			return syscall.ENOTDIR
		case isDir && x.hasEntries(p):
			return syscall.ENOTEMPTY
		}
	}
	return 0
}

func (x *Exclusive) hasEntries(p string) bool {
	names, err := readDir(x.ctx, x.link, p, 1)
	return len(names) > 0 || errors.Is(err, sftpwire.ErrTooLarge)
}
