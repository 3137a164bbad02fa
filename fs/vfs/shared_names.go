package vfs

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// Lookup implements [FileSystem].
func (s *Shared) Lookup(ctx context.Context, parent Ino, name string) (Entry, error) {
	dir, p, release, err := s.holdChild(ctx, parent, name, looksUp)
	if err != nil {
		return Entry{}, &Error{"lookup", name, err}
	}
	defer release()
	st, asked, found := s.cache.look(p)
	if found == unknown {
		if listed, ok := s.cache.scanned(p, s.view.Follow); ok {
			st, asked, found = listed, time.Now(), present
		}
	}
	if known := s.tree.child(dir, name); known != nil {
		if s.tree.isPending(known) {
			found = unknown // what is written is not in it
		}
		if s.readsAhead() {
			s.next.arrived(known.ino, s.pause())
			defer s.next.served(known.ino)
		}
	}
	s.link.metrics.names.count(found != unknown)
	s.listBehind(path.Dir(p), name, found)
	switch found {
	case absent:
		s.tree.gone(dir, name)
		return Entry{NameValid: left(s.o.NegativeTimeout, s.cache.dir, time.Since(asked))}, &Error{"lookup", p, syscall.ENOENT}
	case present:
		n, err := s.found(ctx, dir, name, p, st)
		if err != nil {
			return Entry{}, err
		}
		return s.entryOf(s.attrBefore(n, st), time.Since(asked)), nil
	}
	return s.find(ctx, dir, name, p)
}

// find asks for a name whose lock is held and remembers it.
func (s *Shared) find(ctx context.Context, dir *node, name, p string) (Entry, error) {
	st, asked, err := s.askStat(ctx, p)
	if errors.Is(err, os.ErrNotExist) {
		s.tree.gone(dir, name)
		return Entry{NameValid: s.o.NegativeTimeout}, &Error{"lookup", p, err}
	}
	if err != nil {
		return Entry{}, &Error{"lookup", p, err}
	}
	n, err := s.found(ctx, dir, name, p, st)
	if err != nil {
		return Entry{}, err
	}
	return s.entryOf(s.attr(n, st), time.Since(asked)), nil
}

// askStat asks for the attributes of a path, which are remembered.
func (s *Shared) askStat(ctx context.Context, p string) (*sftpwire.Stat, time.Time, error) {
	f := s.cache.begin(path.Dir(p))
	defer s.cache.end(f)
	st, err := s.lstat(ctx, p)
	if err == nil {
		s.cache.put(f, path.Base(p), st)
	}
	return st, f.asked, err
}

// stat gives the attributes of a path that are known, or else asks for them.
func (s *Shared) stat(ctx context.Context, p string) (*sftpwire.Stat, error) {
	if st, _, found := s.cache.look(p); found == present {
		return st, nil
	}
	st, _, err := s.askStat(ctx, p)
	return st, err
}

// found remembers a name whose lock is held and which has the given attributes.
func (s *Shared) found(ctx context.Context, dir *node, name, p string, st *sftpwire.Stat) (*node, error) {
	// A name that was one of several of a file may have been given to another on
	// the node: SFTP has no inode numbers to tell.
	if other, ok := s.tree.otherName(dir, name); ok {
		if same, err := s.stat(ctx, other); err != nil || !alike(st, same) {
			s.tree.unlink(dir, name)
		}
	}
	a := s.view.listed(st)
	if err := s.view.usable(a); err != nil {
		return nil, &Error{"lookup", p, err}
	}
	return s.tree.remember(dir, name, a.Mode), nil
}

// alike reports whether attributes can be those of one file.
func alike(a, b *sftpwire.Stat) bool {
	return a.Permissions == b.Permissions && a.Size == b.Size && a.Mtime == b.Mtime && a.UID == b.UID && a.GID == b.GID
}

// Mkdir implements [FileSystem].
func (s *Shared) Mkdir(ctx context.Context, parent Ino, name string, mode uint32) (Entry, error) {
	dir, p, release, err := s.holdChild(ctx, parent, name, makes)
	if err != nil {
		return Entry{}, &Error{"mkdir", name, err}
	}
	defer release()
	folder := folderLooks{s.look(dir, p)}
	defer folder.end()
	var st *sftpwire.Stat
	asked := time.Now()
	err = s.change(ctx, p, func(x *session) (err error) {
		st, err = thenLook(x.Session, p, folder, func() sftpwire.Request { return x.SendMkdir(p, mode) })
		return err
	}, s.madeDir(ctx, p))
	if err != nil {
		return Entry{}, &Error{"mkdir", p, s.whyNotMade(ctx, p, err)}
	}
	s.cache.empty(p)
	folder.changed(nil)
	// The server's umask has had its say; the caller's has been applied by the kernel.
	if st != nil && st.Permissions&TypeMask == TypeDir && st.Permissions&0o7777 != mode {
		asked = time.Now()
		if st, err = s.setstat(ctx, p, false, sftpwire.Attrs{Permissions: &mode}); err != nil {
			return Entry{}, &Error{"mkdir", p, err}
		}
		s.cache.stale(p) // a listing that was under way has perhaps seen it in between
	}
	return s.made(ctx, dir, name, p, st, asked)
}

// Symlink implements [FileSystem].
func (s *Shared) Symlink(ctx context.Context, parent Ino, name, target string) (Entry, error) {
	dir, p, release, err := s.holdChild(ctx, parent, name, makes)
	if err != nil {
		return Entry{}, &Error{"symlink", name, err}
	}
	defer release()
	folder := folderLooks{s.look(dir, p)}
	defer folder.end()
	var st *sftpwire.Stat
	asked := time.Now()
	err = s.change(ctx, p, func(x *session) (err error) {
		st, err = thenLook(x.Session, p, folder, func() sftpwire.Request { return x.SendSymlink(target, p) })
		return err
	}, s.madeSymlink(ctx, target, p))
	if err != nil {
		return Entry{}, &Error{"symlink", p, s.whyNotMade(ctx, p, err)}
	}
	folder.changed(nil)
	if s.view.Follow {
		st = nil
	}
	return s.made(ctx, dir, name, p, st, asked)
}

// Link implements [FileSystem].
func (s *Shared) Link(ctx context.Context, ino, parent Ino, name string) (Entry, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return Entry{}, &Error{"link", name, err}
	}
	if n.mode == TypeDir {
		return Entry{}, &Error{"link", name, syscall.EPERM}
	}
	if s.view.NoHardlink {
		return Entry{}, &Error{"link", name, syscall.ENOSYS}
	}
	dir, p, release, err := s.holdChild(ctx, parent, name, makes)
	if err != nil {
		return Entry{}, &Error{"link", name, err}
	}
	defer release()
	folder := folderLooks{s.look(dir, p)}
	defer folder.end()
	defer s.tree.touch(n)
	// The lock on the name's folder is held; the other folder's is not taken, as
	// it may be the same one. The kernel keeps renames of the old name away.
	old, ok := s.tree.path(n)
	if !ok {
		return Entry{}, &Error{"link", p, syscall.ENOENT}
	}
	var st *sftpwire.Stat
	err = s.change(ctx, p, func(x *session) (err error) {
		wire := x.Session
		if _, ok := wire.Extension(sftpwire.ExtHardlink); !ok {
			return syscall.EPERM // as link(2) where links cannot be made
		}
		st, err = thenLook(wire, p, folder, func() sftpwire.Request { return wire.SendHardlink(old, p) })
		return err
	}, s.madeLink(ctx, old, p))
	if err != nil {
		return Entry{}, &Error{"link", p, s.whyNotMade(ctx, p, err)}
	}
	if st == nil {
		if st, err = s.lstat(ctx, p); err != nil {
			return Entry{}, &Error{"link", p, err}
		}
	}
	folder.changed(func(t *tree) { t.anotherLocked(n, dir, name) })
	return s.entry(s.attr(n, st)), nil
}

// Unlink implements [FileSystem].
func (s *Shared) Unlink(ctx context.Context, parent Ino, name string) error {
	dir, p, release, err := s.holdChild(ctx, parent, name, removes)
	if err != nil {
		return &Error{"unlink", name, err}
	}
	defer release()
	if err := s.holdOpen(ctx, s.tree.child(dir, name)); err != nil {
		return &Error{"unlink", p, err}
	}
	n := s.tree.child(dir, name)
	if err := s.remove(ctx, dir, name, p, false); err != nil {
		return &Error{"unlink", p, err}
	}
	s.awaitLeft(ctx, n)
	return nil
}

// Rmdir implements [FileSystem].
func (s *Shared) Rmdir(ctx context.Context, parent Ino, name string) error {
	dir, p, release, err := s.holdChild(ctx, parent, name, removes)
	if err != nil {
		return &Error{"rmdir", name, err}
	}
	defer release()
	if err := s.remove(ctx, dir, name, p, true); err != nil {
		return &Error{"rmdir", p, err}
	}
	return nil
}

// remove removes a name of the folder dir, whose names are locked.
func (s *Shared) remove(ctx context.Context, dir *node, name, p string, isDir bool) error {
	folder := folderLooks{s.look(dir, p)}
	defer folder.end()
	err := s.change(ctx, p, func(x *session) error {
		return folder.send(x.Session, func() sftpwire.Request {
			if isDir {
				return x.SendRmdir(p)
			}
			return x.SendRemove(p)
		})
	}, s.removed(ctx, s.tree.child(dir, name), p))
	if err != nil {
		return s.whyNotRemoved(ctx, p, isDir, err)
	}
	folder.changed(func(t *tree) { t.unlinkLocked(dir, name) })
	s.listBehind(path.Dir(p), name, absent)
	s.emptied(p)
	return nil
}

// Rename implements [FileSystem].
func (s *Shared) Rename(ctx context.Context, oldParent Ino, oldName string, newParent Ino, newName string, mode RenameMode) error {
	from, to, release, err := s.holdRename(ctx, oldParent, oldName, newParent, newName)
	if err != nil {
		return &Error{"rename", oldName + " to " + newName, err}
	}
	defer release()
	oldPath, ok1 := s.tree.path(from)
	newPath, ok2 := s.tree.path(to)
	if !ok1 || !ok2 {
		return &Error{"rename", oldName + " to " + newName, syscall.ENOENT}
	}
	oldPath, newPath = path.Join(oldPath, oldName), path.Join(newPath, newName)
	moved := s.tree.child(from, oldName)
	if moved != nil && s.tree.within(to, moved) { // whatever the node thinks of it
		return &Error{"rename", oldPath + " to " + newPath, syscall.EINVAL}
	}
	folders := folderLooks{s.look(to, newPath)}
	if from != to {
		folders = append(folders, s.look(from, oldPath))
	}
	defer folders.end()
	if mode == RenameNoReplace {
		err = s.renameNew(ctx, moved, oldPath, newPath, folders)
	} else if err = s.holdOpen(ctx, s.tree.child(to, newName)); err == nil {
		replaced := s.tree.child(to, newName)
		err = s.renameOver(ctx, moved, oldPath, newPath, folders)
		s.awaitLeft(ctx, replaced)
	}
	if err != nil {
		s.cache.doubt(oldPath)
	}
	if err != nil {
		return &Error{"rename", oldPath + " to " + newPath, err}
	}
	folders.changed(func(t *tree) { t.renameLocked(from, oldName, to, newName) })
	return nil
}

// holdRename locks the names of both folders, and everybody else's paths if a
// folder is moved, since they may lead through it.
func (s *Shared) holdRename(ctx context.Context, oldParent Ino, oldName string, newParent Ino, newName string) (from, to *node, release func(), err error) {
	if err := cmp.Or(removes.check(oldName), makes.check(newName)); err != nil {
		return nil, nil, nil, err
	}
	if from, err = s.tree.get(oldParent); err != nil {
		return nil, nil, nil, err
	}
	if to, err = s.tree.get(newParent); err != nil {
		return nil, nil, nil, err
	}
	if from.mode != TypeDir || to.mode != TypeDir {
		return nil, nil, nil, syscall.ENOTDIR
	}
	all := int64(1)
	if mayBeDir(s.tree.child(from, oldName)) {
		all = allNames
	}
	if err := acquire(ctx, s.names, all); err != nil {
		return nil, nil, nil, err
	}
	first, second := from, to
	if first.ino > second.ino {
		first, second = second, first
	}
	if err := lock(ctx, first.names); err != nil {
		s.names.Release(all)
		return nil, nil, nil, err
	}
	if second != first {
		if err := lock(ctx, second.names); err != nil {
			first.names.Release(allNames)
			s.names.Release(all)
			return nil, nil, nil, err
		}
	}
	release = func() {
		if second != first {
			second.names.Release(allNames)
		}
		first.names.Release(allNames)
		s.names.Release(all)
	}
	if all == 1 && mayBeDir(s.tree.child(from, oldName)) { // since a moment ago
		release()
		return s.holdRename(ctx, oldParent, oldName, newParent, newName)
	}
	return from, to, release, nil
}

// mayBeDir reports whether a name's node is a folder, or not known.
func mayBeDir(n *node) bool { return n == nil || n.mode == TypeDir }

// renameNew renames to a name that must not exist. SSH_FXP_RENAME refuses an
// existing one (draft, section 6.5).
func (s *Shared) renameNew(ctx context.Context, moved *node, oldPath, newPath string, folders folderLooks) error {
	err := s.change(ctx, newPath, func(x *session) error {
		if _, err := stated(x.Lstat(newPath)); err == nil {
			return syscall.EEXIST
		}
		return folders.send(x.Session, func() sftpwire.Request { return x.SendRename(oldPath, newPath) })
	}, s.renamed(ctx, moved, oldPath, newPath))
	return s.whyNotRenamed(ctx, oldPath, newPath, false, err)
}

// renameOver renames and replaces: in one moment by posix-rename@openssh.com.
// Without it the old file is moved aside first, brought back if that fails.
func (s *Shared) renameOver(ctx context.Context, moved *node, oldPath, newPath string, folders folderLooks) error {
	err := s.change(ctx, newPath, func(x *session) error {
		if _, ok := x.Extension(sftpwire.ExtPosixRename); ok {
			return folders.send(x.Session, func() sftpwire.Request { return x.SendPosixRename(oldPath, newPath) })
		}
		err := x.Rename(context.Background(), oldPath, newPath)
		if !isFailure(err) {
			return err
		}
		target, statErr := stated(x.Lstat(newPath))
		if statErr != nil || saneMode(target.Permissions)&TypeMask == TypeDir {
			return err
		}
		aside := path.Join(path.Dir(newPath), ".bundlefs-"+randomName())
		defer s.cache.doubt(aside) // somebody may list the folder meanwhile
		if err := x.Rename(context.Background(), newPath, aside); err != nil {
			return err
		}
		if err := x.Rename(context.Background(), oldPath, newPath); err != nil {
			return errors.Join(err, x.Rename(context.Background(), aside, newPath))
		}
		return x.Remove(context.Background(), aside)
	}, s.renamed(ctx, moved, oldPath, newPath))
	return s.whyNotRenamed(ctx, oldPath, newPath, true, err)
}

// Readlink implements [FileSystem].
func (s *Shared) Readlink(ctx context.Context, ino Ino) (string, error) {
	n, err := s.tree.get(ino)
	if err != nil {
		return "", &Error{"readlink", "", err}
	}
	p, release, err := s.holdPath(ctx, n)
	if err != nil {
		return "", &Error{"readlink", "", err}
	}
	defer release()
	target, known := s.cache.target(p)
	if !known {
		f := s.cache.begin(path.Dir(p))
		defer s.cache.end(f)
		target, err = ask(ctx, s.link, func(x *session) (string, error) { return x.ReadLink(p).Wait(context.Background()) })
		if err == nil && len(target) < maxPath {
			s.cache.putTarget(f, path.Base(p), target)
		}
	}
	if isFailure(err) {
		err = syscall.EINVAL // it is no link (any more)
	}
	if err == nil {
		target, err = s.view.target(target, s.tree.root, s.tree.depth(n))
	}
	if err != nil {
		return "", &Error{"readlink", p, err}
	}
	return target, nil
}

// thenLook sends a request that makes the name p and, right behind it, asks for
// its attributes, nil if the server did not give them, and those of folders.
func thenLook(wire *sftpwire.Session, p string, folders folderLooks, send func() sftpwire.Request) (*sftpwire.Stat, error) {
	made, look, told := send(), wire.Lstat(p), folders.ask(wire)
	if err := made.Wait(context.Background()); err != nil {
		return nil, err
	}
	st, err := look.Wait(context.Background())
	told()
	if err != nil {
		return nil, nil // a server may answer in any order: it is asked again
	}
	return &st, nil
}

// made remembers a name that was made here, with its attributes if they are known.
func (s *Shared) made(ctx context.Context, dir *node, name, p string, st *sftpwire.Stat, asked time.Time) (Entry, error) {
	if st == nil {
		return s.find(ctx, dir, name, p)
	}
	n, err := s.found(ctx, dir, name, p, st)
	if err != nil {
		return Entry{}, err
	}
	f := s.cache.begin(path.Dir(p)) // now that the cache knows of the name, which made older questions void
	f.asked = asked
	s.cache.put(f, name, st)
	s.cache.end(f)
	return s.entryOf(s.attr(n, st), time.Since(asked)), nil
}
