package mountpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"bundlefs/internal/control"

	"golang.org/x/sys/unix"
)

// coveredMode is the mode of a folder while it is a mount point.
const coveredMode = 0o500

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h: nothing can be created in the folder, not by root either.
const immutableFlag uint32 = 0x10

// record is what a covered folder was before, on disk while it is covered.
type record struct {
	Path      string `json:"path"`
	Inode     uint64 `json:"inode"`
	Mode      uint32 `json:"mode"`      // permission bits with setuid, setgid and sticky
	Immutable bool   `json:"immutable"` // it had the flag before us
}

// Cover is the folder underneath a mount. Its methods may be called by several goroutines.
type Cover struct {
	dir  *os.File // opened before the mount, so that it leads under it
	rec  record
	file string // of the record

	once sync.Once
	err  error // of Restore, written by once
}

// NewCover notes what the folder path is, before something is mounted there. Restore
// ends it, whether Protect was called or not.
func NewCover(path string) (*Cover, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	c := &Cover{dir: dir, rec: record{Path: path}}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		dir.Close()
		return nil, &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	c.rec.Inode, c.rec.Mode = st.Ino, st.Mode&0o7777
	if flags, err := unix.IoctlGetUint32(int(dir.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		c.rec.Immutable = flags&immutableFlag != 0
	}
	if c.file, err = c.rec.save(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("record of the folder under the mount: %w", err)
	}
	return c, nil
}

// Protect makes the folder unwritable: mode 0500, and immutable where the filesystem has
// that and we may. It is called after mounting, since fusermount3 mounts for an ordinary
// user only on a folder that is writable. The error is that of the mode; a folder of
// another owner cannot be changed and stays as it is.
func (c *Cover) Protect() error {
	if c.rec.Immutable {
		return nil
	}
	if err := c.dir.Chmod(coveredMode); err != nil {
		return fmt.Errorf("protect the folder under the mount: %w", err)
	}
	setImmutable(c.dir, true)
	return nil
}

// Restore makes the folder what it was and forgets it. Every call returns the same.
func (c *Cover) Restore() error {
	c.once.Do(func() {
		c.err = errors.Join(c.rec.restore(c.dir), c.dir.Close(), remove(c.file))
	})
	return c.err
}

// Leave lets the folder stay closed, whatever becomes of the mount: Recover opens it again. It is
// called in place of Restore.
func (c *Cover) Leave() error {
	c.once.Do(func() { c.err = errors.Join(c.Protect(), c.dir.Close()) })
	return c.err
}

// Recover makes the folder path, on which nothing must be mounted, what it was before a
// mount program covered it and was killed. It tells whether there was anything to do.
func Recover(path string) (bool, error) {
	var recovered bool
	for _, dir := range recordDirs() {
		file := filepath.Join(dir, control.Name(path)+".under")
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return recovered, err
		}
		var rec record
		if err := json.Unmarshal(raw, &rec); err != nil {
			return recovered, fmt.Errorf("%s: %w", file, err)
		}
		done, err := rec.recover(path)
		if err != nil {
			return recovered, err
		}
		recovered = recovered || done
		if err := remove(file); err != nil {
			return recovered, err
		}
	}
	return recovered, nil
}

func (r *record) recover(path string) (bool, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return false, &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	// Another folder of the same name, or one that was opened again by hand.
	if st.Ino != r.Inode || st.Mode&0o7777 != coveredMode {
		return false, nil
	}
	return true, r.restore(dir)
}

func (r *record) restore(dir *os.File) error {
	if r.Immutable {
		return nil
	}
	setImmutable(dir, false)
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err == nil && st.Mode&0o7777 == r.Mode {
		return nil
	}
	if err := unix.Fchmod(int(dir.Fd()), r.Mode); err != nil {
		return fmt.Errorf("restore mode %04o: %w", r.Mode, &fs.PathError{Op: "fchmod", Path: r.Path, Err: err})
	}
	return nil
}

// setImmutable sets or clears the flag; a filesystem without it, or a user who may not, is no error.
func setImmutable(dir *os.File, on bool) {
	fd := int(dir.Fd())
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return
	}
	want := flags &^ immutableFlag
	if on {
		want |= immutableFlag
	}
	if want != flags {
		// The flags are an int in user space, whatever the ioctl's name says of long.
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(want))
	}
}

func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// recordDirs are the folders for records, the preferred first: one that outlives a restart,
// as the folder's mode and flag do, and for accounts without a home the one of the sockets.
func recordDirs() []string {
	var dirs []string
	if x := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(x) {
		dirs = append(dirs, filepath.Join(x, "bundlefs"))
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		dirs = append(dirs, filepath.Join(home, ".local/state/bundlefs"))
	}
	if sock, err := control.SocketPath("/"); err == nil {
		dirs = append(dirs, filepath.Dir(sock))
	}
	return dirs
}

func (r *record) save() (file string, err error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	err = errors.New("no folder to keep it in")
	for _, dir := range recordDirs() {
		file = filepath.Join(dir, control.Name(r.Path)+".under")
		if err = os.MkdirAll(dir, 0o700); err != nil {
			continue
		}
		if err = os.WriteFile(file+".new", raw, 0o600); err != nil {
			continue
		}
		if err = os.Rename(file+".new", file); err == nil {
			return file, nil
		}
	}
	return "", err
}
