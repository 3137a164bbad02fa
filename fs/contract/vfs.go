package contract

import (
	"context"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"bundlefs/fs/vfs"
)

// VFS works on a folder of a file system without a kernel: it does what the
// kernel would, lookups first.
type VFS struct {
	Files vfs.FileSystem
	Root  vfs.Ino
}

var background = context.Background()

// walk looks a path up. What it has looked up is never forgotten: a kernel with
// memory to spare does the same.
func (v VFS) walk(p string) (vfs.Entry, error) {
	e := vfs.Entry{Attr: vfs.Attr{Ino: v.Root, Mode: vfs.TypeDir}}
	for name := range strings.SplitSeq(path.Clean(p), "/") {
		if name == "." {
			continue
		}
		if !e.Attr.IsDir() {
			return e, syscall.ENOTDIR
		}
		var err error
		if e, err = v.Files.Lookup(background, e.Attr.Ino, name); err != nil {
			return e, err
		}
	}
	return e, nil
}

// in calls f with the inode of the folder of p and p's last name.
func (v VFS) in(p string, f func(dir vfs.Ino, name string) error) error {
	e, err := v.walk(path.Dir(path.Clean(p)))
	if err != nil {
		return err
	}
	if !e.Attr.IsDir() {
		return syscall.ENOTDIR
	}
	return f(e.Attr.Ino, path.Base(p))
}

// on calls f with the inode of p.
func (v VFS) on(p string, f func(ino vfs.Ino) error) error {
	e, err := v.walk(p)
	if err != nil {
		return err
	}
	return f(e.Attr.Ino)
}

func vfsAttr(a vfs.Attr) Attr {
	return Attr{Mode: a.Mode, Nlink: a.Nlink, Ino: uint64(a.Ino), Size: int64(a.Size), Mtime: time.Unix(0, a.Mtime)}
}

func (v VFS) Lstat(p string) (a Attr, err error) {
	err = v.on(p, func(ino vfs.Ino) error {
		e, err := v.Files.Getattr(background, ino, 0)
		a = vfsAttr(e.Attr)
		return err
	})
	return a, err
}

func (v VFS) List(p string) (names []string, err error) {
	err = v.on(p, func(ino vfs.Ino) error {
		o, err := v.Files.OpenDir(background, ino)
		if err != nil {
			return err
		}
		defer v.Files.ReleaseDir(o.Handle)
		entries, err := v.Files.ReadDir(background, o.Handle, true)
		for _, e := range entries {
			names = append(names, e.Name)
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// failed is the error of a call that makes a name.
func failed(_ vfs.Entry, err error) error { return err }

// fresh is the kernel's check that a name to be made does not exist.
func (v VFS) fresh(dir vfs.Ino, name string) error {
	_, err := v.Files.Lookup(background, dir, name)
	if err == nil {
		return syscall.EEXIST
	}
	if vfs.Errno(err) == syscall.ENOENT {
		return nil
	}
	return err
}

func (v VFS) Mkdir(p string, mode uint32) error {
	return v.in(p, func(dir vfs.Ino, name string) error { return failed(v.Files.Mkdir(background, dir, name, mode)) })
}

func (v VFS) Rmdir(p string) error {
	return v.in(p, func(dir vfs.Ino, name string) error { return v.Files.Rmdir(background, dir, name) })
}

func (v VFS) Unlink(p string) error {
	return v.in(p, func(dir vfs.Ino, name string) error { return v.Files.Unlink(background, dir, name) })
}

func (v VFS) Rename(oldPath, newPath string, noReplace bool) error {
	mode := vfs.RenameReplace
	if noReplace {
		mode = vfs.RenameNoReplace
	}
	// The kernel refuses to move a folder into itself before it asks.
	if strings.HasPrefix(newPath, oldPath+"/") {
		return syscall.EINVAL
	}
	return v.in(oldPath, func(from vfs.Ino, oldName string) error {
		return v.in(newPath, func(to vfs.Ino, newName string) error {
			if _, err := v.Files.Lookup(background, from, oldName); err != nil { // and looks first
				return err
			}
			return v.Files.Rename(background, from, oldName, to, newName, mode)
		})
	})
}

func (v VFS) Symlink(target, p string) error {
	return v.in(p, func(dir vfs.Ino, name string) error { return failed(v.Files.Symlink(background, dir, name, target)) })
}

func (v VFS) Readlink(p string) (target string, err error) {
	err = v.on(p, func(ino vfs.Ino) error {
		target, err = v.Files.Readlink(background, ino)
		return err
	})
	return target, err
}

func (v VFS) Link(oldPath, newPath string) error {
	return v.on(oldPath, func(ino vfs.Ino) error {
		return v.in(newPath, func(dir vfs.Ino, name string) error {
			if err := v.fresh(dir, name); err != nil {
				return err
			}
			return failed(v.Files.Link(background, ino, dir, name))
		})
	})
}

func (v VFS) set(p string, set vfs.SetAttr) error {
	return v.on(p, func(ino vfs.Ino) error {
		_, err := v.Files.Setattr(background, ino, 0, set)
		return err
	})
}

func (v VFS) Chmod(p string, mode uint32) error { return v.set(p, vfs.SetAttr{Mode: &mode}) }

func (v VFS) Truncate(p string, size int64) error {
	n := uint64(size)
	return v.set(p, vfs.SetAttr{Size: &n})
}

func (v VFS) Utimes(p string, atime, mtime time.Time) error {
	a, m := atime.UnixNano(), mtime.UnixNano()
	return v.set(p, vfs.SetAttr{Atime: &a, Mtime: &m})
}

func (v VFS) Open(p string, flags int, mode uint32) (File, error) {
	e, err := v.walk(p)
	switch {
	case err == nil && flags&syscall.O_CREAT != 0 && flags&syscall.O_EXCL != 0:
		return nil, syscall.EEXIST
	case err == nil && e.Attr.IsDir() && flags&syscall.O_ACCMODE != syscall.O_RDONLY:
		return nil, syscall.EISDIR
	case err == nil:
		if flags&syscall.O_TRUNC != 0 { // as the kernel does: a request of its own
			var zero uint64
			if _, err := v.Files.Setattr(background, e.Attr.Ino, 0, vfs.SetAttr{Size: &zero}); err != nil {
				return nil, err
			}
		}
		o, err := v.Files.Open(background, e.Attr.Ino, uint32(flags&^(syscall.O_CREAT|syscall.O_TRUNC)))
		if err != nil {
			return nil, err
		}
		return &vfsFile{v, e.Attr.Ino, o.Handle}, nil
	case flags&syscall.O_CREAT == 0 || vfs.Errno(err) != syscall.ENOENT:
		return nil, err
	}
	var f *vfsFile
	err = v.in(p, func(dir vfs.Ino, name string) error {
		e, o, err := v.Files.Create(background, dir, name, uint32(flags), mode)
		if err == nil {
			f = &vfsFile{v, e.Attr.Ino, o.Handle}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

type vfsFile struct {
	v   VFS
	ino vfs.Ino
	h   vfs.Handle
}

func (f *vfsFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.v.Files.Read(background, f.h, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *vfsFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), f.v.Files.Write(background, f.h, p, off, false)
}

func (f *vfsFile) Append(data []byte) error {
	a, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, a.Size)
	return err
}

func (f *vfsFile) Stat() (Attr, error) {
	e, err := f.v.Files.Getattr(background, f.ino, f.h)
	return vfsAttr(e.Attr), err
}

func (f *vfsFile) Truncate(size int64) error {
	n := uint64(size)
	_, err := f.v.Files.Setattr(background, f.ino, f.h, vfs.SetAttr{Size: &n})
	return err
}

func (f *vfsFile) Sync() error { return f.v.Files.Fsync(background, f.h) }

func (f *vfsFile) Close() error {
	err := f.v.Files.Flush(background, f.h)
	f.v.Files.Release(f.h)
	return err
}
