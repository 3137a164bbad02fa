package control

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSunPath is the longest path that fits sockaddr_un with its final NUL (unix(7)).
const maxSunPath = 107

// maxLinks is how many symbolic links in a row Canonical follows, as the kernel (ELOOP).
const maxLinks = 40

// Canonical is the absolute path of a mount point without symbolic links. What is mounted
// there is not asked: the last element is only read as a link, and a mounted folder is none.
func Canonical(mountpoint string) (string, error) {
	if mountpoint == "" {
		return "", errors.New("the mount point is empty")
	}
	p, err := filepath.Abs(mountpoint)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", mountpoint, err)
	}
	for range maxLinks {
		if p == "/" {
			return p, nil
		}
		parent, err := filepath.EvalSymlinks(filepath.Dir(p))
		if err != nil {
			return "", fmt.Errorf("mount point %s: %w", mountpoint, err)
		}
		p = filepath.Join(parent, filepath.Base(p))
		target, err := os.Readlink(p)
		if err != nil {
			return p, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(parent, target)
		}
		p = filepath.Clean(target)
	}
	return "", fmt.Errorf("mount point %s: %w", mountpoint, syscall.ELOOP)
}

// SocketPath is where the control socket of a mount on mountpoint is made: a name that is
// the hash of its canonical path, in a folder that is ours alone and is created if need be.
func SocketPath(mountpoint string) (string, error) {
	p, err := Canonical(mountpoint)
	if err != nil {
		return "", err
	}
	dir, err := runtimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, Name(p)+".sock"), nil
}

// Name is the file name, without ending, of what is kept for a canonical mount point.
func Name(canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return hex.EncodeToString(sum[:16])
}

// runtimeDirs are the folders where our sockets may be, the preferred first. A mount made
// in a login session is found from a shell without XDG_RUNTIME_DIR, and the other way round.
func runtimeDirs() []string {
	uid := strconv.Itoa(os.Getuid())
	var dirs []string
	add := func(parent, name string) {
		dir := filepath.Join(parent, name)
		if len(dir)+len("/.sock")+32 > maxSunPath {
			return
		}
		for _, d := range dirs {
			if d == dir {
				return
			}
		}
		dirs = append(dirs, dir)
	}
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) && owned(x) {
		add(x, "bundlefs")
	}
	if x := "/run/user/" + uid; owned(x) {
		add(x, "bundlefs")
	}
	add("/tmp", "bundlefs-"+uid)
	return dirs
}

// owned tells whether path is a folder of this user.
func owned(path string) bool {
	var st syscall.Stat_t
	return syscall.Lstat(path, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && st.Uid == uint32(os.Getuid())
}

// runtimeDir makes and proves the folder for new sockets.
func runtimeDir() (string, error) {
	var errs []string
	for _, dir := range runtimeDirs() {
		err := os.Mkdir(dir, 0o700)
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = private(dir)
		}
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err.Error())
	}
	return "", fmt.Errorf("no private folder for the control socket: %s", strings.Join(errs, "; "))
}

// private proves that dir is a real folder of ours that nobody else can enter or change.
func private(dir string) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&syscall.S_IFMT != syscall.S_IFDIR:
		return fmt.Errorf("%s is not a folder: remove it", dir)
	case st.Uid != uint32(os.Getuid()):
		return fmt.Errorf("%s belongs to uid %d, not to us (uid %d): have it removed", dir, st.Uid, os.Getuid())
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s is open to others (mode %04o): chmod 0700 it", dir, st.Mode&0o7777)
	}
	return nil
}
