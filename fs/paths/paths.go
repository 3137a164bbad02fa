// Package paths gives a file system of package vfs to who has no mount: what a program
// asks of the kernel by name is done here by name.
//
//	t := paths.Tree{FS: files}
//	err := t.Write(ctx, "dist/x.whl", 0o644, mtime, r)
//	err = files.Sync(ctx, nil) // the barrier, as ever
//
// Names have slashes and are relative to the root, which is "."; one that leads out of it is
// EINVAL. Symbolic links are never followed: one on the way is ENOTDIR. Each error is an
// *fs.PathError with the errno that a mount would have answered.
package paths

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bundlefs/fs/vfs"
)

// chunk is how much is read or written at once, in bytes.
const chunk = 256 << 10

// Tree is a file system by names.
type Tree struct{ FS vfs.FileSystem }

// Entry is one file of a listing.
type Entry struct {
	Name string
	Attr vfs.Attr
}

// Lstat gives the attributes of what is at name.
func (t Tree) Lstat(ctx context.Context, name string) (vfs.Attr, error) {
	n, err := t.walk(ctx, name)
	if err != nil {
		return vfs.Attr{}, fail("lstat", name, err)
	}
	defer n.forget()
	return n.attr, nil
}

// List gives what is in the folder name.
func (t Tree) List(ctx context.Context, name string) ([]Entry, error) {
	list, err := t.list(ctx, name)
	return list, fail("list", name, err)
}

func (t Tree) list(ctx context.Context, name string) ([]Entry, error) {
	n, err := t.walk(ctx, name)
	if err != nil {
		return nil, err
	}
	defer n.forget()
	if !n.attr.IsDir() {
		return nil, syscall.ENOTDIR
	}
	o, err := t.FS.OpenDir(ctx, n.attr.Ino)
	if err != nil {
		return nil, err
	}
	defer t.FS.ReleaseDir(o.Handle)
	found, err := t.FS.ReadDir(ctx, o.Handle, false)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, len(found))
	for i, e := range found {
		list[i] = Entry{e.Name, e.Attr}
	}
	return list, nil
}

// MkdirAll makes the folder name and those above it that are missing.
func (t Tree) MkdirAll(ctx context.Context, name string, perm uint32) error {
	return fail("mkdir", name, t.mkdirAll(ctx, name, perm))
}

func (t Tree) mkdirAll(ctx context.Context, name string, perm uint32) error {
	if err := check(name); err != nil {
		return err
	}
	at := "."
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		err := t.at(ctx, path.Join(at, part), func(parent vfs.Ino, base string) error {
			e, err := t.FS.Mkdir(ctx, parent, base, perm)
			if err == nil {
				t.FS.Forget(e.Attr.Ino, 1)
			}
			return err
		})
		at = path.Join(at, part)
		if err == nil {
			continue
		}
		if vfs.Errno(err) != syscall.EEXIST && at != "." {
			return err
		}
		n, err := t.walk(ctx, at)
		if err != nil {
			return err
		}
		n.forget()
		if !n.attr.IsDir() {
			return syscall.ENOTDIR
		}
	}
	return nil
}

// Write makes the file name, which must not exist (EEXIST), with all that from gives, its
// permissions and its time of change. When it fails, a part of the file can be there.
func (t Tree) Write(ctx context.Context, name string, perm uint32, mtime time.Time, from io.Reader) error {
	return fail("write", name, t.write(ctx, name, perm, mtime, from))
}

func (t Tree) write(ctx context.Context, name string, perm uint32, mtime time.Time, from io.Reader) error {
	return t.at(ctx, name, func(parent vfs.Ino, base string) error {
		e, o, err := t.FS.Create(ctx, parent, base, uint32(os.O_WRONLY|os.O_CREATE|os.O_EXCL), perm)
		if err != nil {
			return err
		}
		defer t.FS.Forget(e.Attr.Ino, 1)
		defer t.FS.Release(o.Handle)
		buf := make([]byte, chunk)
		for off := int64(0); ; {
			n, rerr := from.Read(buf)
			if n > 0 {
				if err := t.FS.Write(ctx, o.Handle, buf[:n], off, false); err != nil {
					return err
				}
				off += int64(n)
			}
			if rerr == io.EOF {
				break
			}
			if rerr != nil {
				return callerError{rerr}
			}
		}
		ns := mtime.UnixNano()
		if _, err := t.FS.Setattr(ctx, e.Attr.Ino, o.Handle, vfs.SetAttr{Mode: &perm, Atime: &ns, Mtime: &ns}); err != nil {
			return err
		}
		return t.FS.Flush(ctx, o.Handle)
	})
}

// Read gives the whole content of the file name to to.
func (t Tree) Read(ctx context.Context, name string, to io.Writer) error {
	return fail("read", name, t.read(ctx, name, to))
}

func (t Tree) read(ctx context.Context, name string, to io.Writer) error {
	n, err := t.walk(ctx, name)
	if err != nil {
		return err
	}
	defer n.forget()
	switch n.attr.Mode & vfs.TypeMask {
	case vfs.TypeRegular:
	case vfs.TypeDir:
		return syscall.EISDIR
	default:
		return syscall.ELOOP
	}
	o, err := t.FS.Open(ctx, n.attr.Ino, uint32(os.O_RDONLY))
	if err != nil {
		return err
	}
	defer t.FS.Release(o.Handle)
	buf := make([]byte, chunk)
	for off := int64(0); ; {
		n, err := t.FS.Read(ctx, o.Handle, buf, off)
		if err != nil {
			return err
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return callerError{err}
		}
		if off += int64(n); n < len(buf) {
			return nil
		}
	}
}

// Rename gives a file another name, and replaces what has it.
func (t Tree) Rename(ctx context.Context, from, to string) error {
	return fail("rename", from, t.at(ctx, from, func(oldParent vfs.Ino, oldName string) error {
		return t.at(ctx, to, func(newParent vfs.Ino, newName string) error {
			return t.FS.Rename(ctx, oldParent, oldName, newParent, newName, vfs.RenameReplace)
		})
	}))
}

// Remove removes a file, or a folder that is empty.
func (t Tree) Remove(ctx context.Context, name string) error {
	return fail("remove", name, t.at(ctx, name, func(parent vfs.Ino, base string) error {
		err := t.FS.Unlink(ctx, parent, base)
		if e := vfs.Errno(err); e == syscall.EISDIR || e == syscall.EPERM {
			err = t.FS.Rmdir(ctx, parent, base)
		}
		return err
	}))
}

// node is one use of an inode, that of attr.
type node struct {
	fs   vfs.FileSystem
	attr vfs.Attr
}

func (n node) forget() {
	if n.attr.Ino != vfs.RootIno {
		n.fs.Forget(n.attr.Ino, 1)
	}
}

// walk finds what is at name.
func (t Tree) walk(ctx context.Context, name string) (node, error) {
	if err := check(name); err != nil {
		return node{}, err
	}
	e, err := t.FS.Getattr(ctx, vfs.RootIno, 0)
	if err != nil {
		return node{}, err
	}
	n := node{t.FS, e.Attr}
	if name = path.Clean(name); name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.attr.IsDir() {
			n.forget()
			return node{}, syscall.ENOTDIR
		}
		e, err := t.FS.Lookup(ctx, n.attr.Ino, part)
		n.forget()
		if err != nil {
			return node{}, err
		}
		n.attr = e.Attr
	}
	return n, nil
}

// at does something with the folder that name is in, and its last part.
func (t Tree) at(ctx context.Context, name string, do func(parent vfs.Ino, base string) error) error {
	if err := check(name); err != nil {
		return err
	}
	name = path.Clean(name)
	if name == "." {
		return syscall.EBUSY
	}
	n, err := t.walk(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	defer n.forget()
	if !n.attr.IsDir() {
		return syscall.ENOTDIR
	}
	return do(n.attr.Ino, path.Base(name))
}

func check(name string) error {
	if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return syscall.EINVAL
	}
	return nil
}

// callerError is an error of a reader or writer of the caller's.
type callerError struct{ error }

// fail makes the error of an operation: what a mount would have said. What the caller's reader
// or writer said, and the end of the caller's context, stay what they are.
func fail(op, name string, err error) error {
	var own callerError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		err = own.error
	case !errors.Is(err, context.Canceled):
		err = vfs.Errno(err)
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
