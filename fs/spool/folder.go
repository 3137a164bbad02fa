package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// LockedError says that another process has the spool open.
type LockedError struct {
	Dir string // the folder of the spool
	PID int    // of the process that holds it; 0 if it could not be told
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("open spool %s: in use by another process", e.Dir)
	}
	return fmt.Sprintf("open spool %s: in use by process %d", e.Dir, e.PID)
}

// Hint says what to do.
func (e *LockedError) Hint() string {
	return "one mount has it at a time: bundlefs unmount ends the other one, with the folder that it is mounted on"
}

// closedError is the error of an operation on a closed spool.
func closedError(op, path string) error {
	return &os.PathError{Op: op, Path: path, Err: os.ErrClosed}
}

// makePrivate makes the folder if it is not there, and proves that it belongs
// to the user of this process, that nobody else may enter it, and that it is
// no symlink.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("open spool %s: it is not a folder (%v)", dir, info.Mode().Type())
	}
	if err := checkOwner(dir, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("open spool %s: others have access (mode %04o): chmod 700 it, if what is in it can be trusted", dir, info.Mode().Perm())
	}
	return nil
}

// checkOwner refuses what belongs to another user.
func checkOwner(path string, info os.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("open spool: %s belongs to another user (uid %d)", path, st.Uid)
	}
	return nil
}

// openOurs opens a regular file of ours, never through a symlink; new ones
// get mode 0600.
func openOurs(path string, flag int) (*os.File, error) {
	// Not os.OpenFile: it tries to have the file polled, which costs five
	// system calls each time and is never possible for a regular file.
	fd, err := unix.Open(path, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	for err == unix.EINTR {
		fd, err = unix.Open(path, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is not a regular file (%v)", path, info.Mode().Type())
	}
	if err == nil {
		err = checkOwner(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockFolder takes the lock of the folder dir; path is its lock file. It
// returns os.ErrNotExist when the folder or the lock file was taken away under
// way, by a Destroy in another process.
func lockFolder(dir, path string) (*os.File, error) {
	f, err := openOurs(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir, PID: readPID(f)}
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	if err := ownLock(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ownLock proves that the locked file is still the one at path, and writes our
// pid into it.
func ownLock(f *os.File, path string) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return &os.PathError{Op: "lock", Path: path, Err: os.ErrNotExist}
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	// The pid is for people. On a full disk the spool must open all the same:
	// it is how the data gets away from here.
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

// readPID reads the pid in a lock file; 0 if there is none.
func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// syncDir brings the names in a folder to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
