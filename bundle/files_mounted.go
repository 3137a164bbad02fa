package bundle

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MountedFiles gives the files below a local folder.
func MountedFiles(folder string) Files { return mountedFiles(folder) }

// mountedFiles are those of a mount, reached by the operating system.
type mountedFiles string

func (m mountedFiles) at(op, name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", &fs.PathError{Op: op, Path: name, Err: syscall.EINVAL}
	}
	return filepath.Join(string(m), filepath.FromSlash(name)), nil
}

func (m mountedFiles) Lstat(_ context.Context, name string) (fs.FileInfo, error) {
	at, err := m.at("lstat", name)
	if err != nil {
		return nil, err
	}
	return os.Lstat(at)
}

func (m mountedFiles) ReadDir(_ context.Context, name string) ([]fs.FileInfo, error) {
	at, err := m.at("list", name)
	if err != nil {
		return nil, err
	}
	d, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdir(-1)
}

func (m mountedFiles) MkdirAll(_ context.Context, name string, perm fs.FileMode) error {
	at, err := m.at("mkdir", name)
	if err != nil {
		return err
	}
	return os.MkdirAll(at, perm)
}

func (m mountedFiles) Write(_ context.Context, name string, perm fs.FileMode, mtime time.Time, from io.Reader) error {
	at, err := m.at("write", name)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm.Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{from}, make([]byte, 256<<10))
	if err == nil {
		err = out.Chmod(perm.Perm()) // past the umask
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Chtimes(at, mtime, mtime)
	}
	return err
}

func (m mountedFiles) Read(_ context.Context, name string, to io.Writer) error {
	at, err := m.at("read", name)
	if err != nil {
		return err
	}
	in, err := os.OpenFile(at, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(to, in)
	return err
}

func (m mountedFiles) Rename(_ context.Context, from, to string) error {
	a, err := m.at("rename", from)
	if err != nil {
		return err
	}
	b, err := m.at("rename", to)
	if err != nil {
		return err
	}
	return os.Rename(a, b)
}

func (m mountedFiles) Remove(_ context.Context, name string) error {
	at, err := m.at("remove", name)
	if err != nil {
		return err
	}
	return os.Remove(at)
}

func (m mountedFiles) Close() error { return nil }
