package contract

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OS is a folder as the kernel shows it: a plain one, or one of a mount.
type OS struct{ Dir string }

func (o OS) at(path string) string { return filepath.Join(o.Dir, path) }

func (o OS) Lstat(path string) (Attr, error) {
	info, err := os.Lstat(o.at(path))
	if err != nil {
		return Attr{}, err
	}
	return osAttr(info), nil
}

func osAttr(info os.FileInfo) Attr {
	st := info.Sys().(*syscall.Stat_t)
	return Attr{Mode: st.Mode, Nlink: uint32(st.Nlink), Ino: st.Ino, Size: st.Size, Mtime: info.ModTime()}
}

func (o OS) List(path string) ([]string, error) {
	entries, err := os.ReadDir(o.at(path))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, err
}

func (o OS) Mkdir(path string, mode uint32) error { return os.Mkdir(o.at(path), os.FileMode(mode)) }
func (o OS) Rmdir(path string) error              { return syscall.Rmdir(o.at(path)) }
func (o OS) Unlink(path string) error             { return syscall.Unlink(o.at(path)) }

func (o OS) Rename(oldPath, newPath string, noReplace bool) error {
	var flags uint
	if noReplace {
		flags = unix.RENAME_NOREPLACE
	}
	return unix.Renameat2(unix.AT_FDCWD, o.at(oldPath), unix.AT_FDCWD, o.at(newPath), flags)
}

func (o OS) Symlink(target, path string) error      { return os.Symlink(target, o.at(path)) }
func (o OS) Readlink(path string) (string, error)   { return os.Readlink(o.at(path)) }
func (o OS) Link(oldPath, newPath string) error     { return os.Link(o.at(oldPath), o.at(newPath)) }
func (o OS) Chmod(path string, mode uint32) error   { return syscall.Chmod(o.at(path), mode) }
func (o OS) Truncate(path string, size int64) error { return os.Truncate(o.at(path), size) }
func (o OS) Utimes(path string, atime, mtime time.Time) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, o.at(path), []unix.Timespec{
		unix.NsecToTimespec(atime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano()),
	}, unix.AT_SYMLINK_NOFOLLOW)
}

func (o OS) Open(path string, flags int, mode uint32) (File, error) {
	fd, err := syscall.Open(o.at(path), flags|syscall.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return osFile{os.NewFile(uintptr(fd), path)}, nil
}

type osFile struct{ *os.File }

func (f osFile) Append(data []byte) error {
	_, err := f.Write(data)
	return err
}

func (f osFile) Stat() (Attr, error) {
	info, err := f.File.Stat()
	if err != nil {
		return Attr{}, err
	}
	return osAttr(info), nil
}
