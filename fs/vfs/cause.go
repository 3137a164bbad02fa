package vfs

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"

	"bundlefs/internal/sftpwire"
)

// The functions here find out what a server meant by FAILURE: OpenSSH's answers
// it for every errno that the draft has no code for (sftp-server.c,
// errno_to_portable). They ask at most a few questions, and only after a failure.

// whyNotMade explains why a name could not be made.
func (s *Shared) whyNotMade(ctx context.Context, p string, err error) error {
	if !isFailure(err) {
		return err
	}
	if _, statErr := s.lstat(ctx, p); statErr == nil {
		return syscall.EEXIST
	}
	return s.whyNotWritten(ctx, path.Dir(p), 0, err)
}

// whyNotWritten explains why data (of so many bytes) or a name was not taken: the
// file system that holds p is full or read-only.
func (s *Shared) whyNotWritten(ctx context.Context, p string, size int, err error) error {
	if !isFailure(err) {
		return err
	}
	v := s.statvfs(ctx, p)
	if v == nil { // removed, for example
		v = s.statvfs(ctx, s.tree.root)
	}
	const readOnly = 1 // SSH2_FXE_STATVFS_ST_RDONLY (OpenSSH, PROTOCOL, section 4.4)
	switch {
	case v == nil:
	case v.Flag&readOnly != 0:
		return syscall.EROFS
	case v.Bavail == 0, v.Files > 0 && v.Favail == 0, v.Frsize > 0 && v.Bavail < uint64(size)/v.Frsize:
		return syscall.ENOSPC
	}
	return err
}

// statvfs returns nil where the server cannot tell.
func (s *Shared) statvfs(ctx context.Context, p string) *sftpwire.StatVFS {
	v, err := ask(ctx, s.link, func(x *session) (*sftpwire.StatVFS, error) { return x.StatVFS(context.Background(), p) })
	if err != nil {
		return nil
	}
	return v
}

// whyNotRemoved explains why a name could not be removed by unlink or, with
// wantDir, by rmdir.
func (s *Shared) whyNotRemoved(ctx context.Context, p string, wantDir bool, err error) error {
	if !isFailure(err) && !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	st, statErr := s.lstat(ctx, p)
	if statErr != nil {
		return err
	}
	isDir := st.Permissions&TypeMask == TypeDir
	switch {
	case isDir && !wantDir:
		return syscall.EISDIR
	case !isDir && wantDir:
		return syscall.ENOTDIR
	case isFailure(err) && isDir && s.hasEntries(ctx, p):
		return syscall.ENOTEMPTY
	}
	return s.whyNotWritten(ctx, p, 0, err)
}

func (s *Shared) hasEntries(ctx context.Context, p string) bool {
	names, err := readDir(ctx, s.link, p, 1)
	return len(names) > 0 || errors.Is(err, sftpwire.ErrTooLarge)
}

// whyNotRenamed explains why a rename was refused.
func (s *Shared) whyNotRenamed(ctx context.Context, oldPath, newPath string, replace bool, err error) error {
	if !isFailure(err) && !errors.Is(err, os.ErrNotExist) { // ENOTDIR is NO_SUCH_FILE
		return err
	}
	if strings.HasPrefix(newPath, oldPath+"/") {
		return syscall.EINVAL
	}
	from, statErr := s.lstat(ctx, oldPath)
	if statErr != nil {
		return statErr
	}
	if to, statErr := s.lstat(ctx, newPath); statErr == nil {
		fromDir, toDir := from.Permissions&TypeMask == TypeDir, to.Permissions&TypeMask == TypeDir
		switch {
		case !replace:
			return syscall.EEXIST
		case fromDir && !toDir:
			return syscall.ENOTDIR
		case toDir && !fromDir:
			return syscall.EISDIR
		case toDir && s.hasEntries(ctx, newPath):
			return syscall.ENOTEMPTY
		}
	}
	if !isFailure(err) {
		return err
	}
	a, b := s.statvfs(ctx, path.Dir(oldPath)), s.statvfs(ctx, path.Dir(newPath))
	if a != nil && b != nil && a.Fsid != b.Fsid {
		return syscall.EXDEV
	}
	return s.whyNotWritten(ctx, path.Dir(newPath), 0, err)
}

// whyNotOpened explains why a file could not be opened with the given flags.
func (s *Shared) whyNotOpened(ctx context.Context, p string, err error) error {
	if !isFailure(err) {
		return err
	}
	if st, statErr := s.lstat(ctx, p); statErr == nil && st.Permissions&TypeMask == TypeDir {
		return syscall.EISDIR
	}
	return s.whyNotWritten(ctx, path.Dir(p), 0, err)
}

// randomName is a name nobody else will use.
func randomName() string { return rand.Text() }
