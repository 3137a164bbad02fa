package vfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"bundlefs/internal/sftpwire"
)

// SharedOptions configure a [Shared] file system.
type SharedOptions struct {
	// Dial opens the SSH connection, and again after each loss.
	Dial func(ctx context.Context) (Conn, error)
	// Root is the folder on the node that becomes the root; relative to the
	// user's home, which "" means.
	Root string
	// NoCheckRoot takes a Root that is not there (yet).
	NoCheckRoot bool
	// NameTimeout, AttrTimeout and NegativeTimeout say for how long a name, its
	// attributes, and that a name does not exist may be taken as true.
	NameTimeout, AttrTimeout, NegativeTimeout time.Duration
	// UID and GID, if not nil, are shown as the owner of everything.
	UID, GID *uint32
	// Umask, if not nil, takes these bits away from the permissions shown.
	Umask *uint32
	// View says more about how links and owners are shown.
	View ViewOptions
	// Cache says what is remembered of names and attributes.
	Cache CacheOptions
	// Sessions is the number of SFTP sessions; 0 means 4.
	Sessions int
	// Timeout is how long a request waits for the node before it fails with
	// ETIMEDOUT; 0 means 30 s, less than 0 for ever.
	Timeout time.Duration
	// KernelCache says that the kernel's data of a file is good at each open; else
	// it is if size and time are the same as at the last open, and with NoAutoCache
	// it never is. With KernelCache small files that were fetched ahead are not asked about.
	KernelCache, NoAutoCache bool
	// DirectIO asks the kernel to cache no data.
	DirectIO bool
	// SyncWrites makes each write wait for the node.
	SyncWrites bool
	// NoReadahead reads only what is asked for.
	NoReadahead bool
	// Log gets what happens to the link; nil discards it.
	Log *slog.Logger
}

// Shared is the file system in shared mode: see the package's documentation.
type Shared struct {
	o     SharedOptions
	view  view
	link  *transport
	tree  *tree
	cache *nameCache
	log   *slog.Logger
	names *semaphore.Weighted // "Shared.renames" of the lock order

	reads *readBudget
	next  *filesAhead // small files, for who reads one after the other
	small smallStore
	room  *semaphore.Weighted // for written data that the node lacks, in bytes
	tasks sync.WaitGroup      // what goes on behind the callers' backs

	rootStat atomic.Pointer[sftpwire.Stat] // what was last known of the root
	space    atomic.Pointer[StatFS]        // and of its file system

	mu         sync.Mutex // guards the tables of handles
	lastHandle Handle
	files      map[Handle]*sharedFile
	leaving    map[*sharedFile]struct{} // released, and not closed yet
	dirs       map[Handle]*openDir
}

var _ FileSystem = (*Shared)(nil)

// NewShared connects to the node and finds the root folder. Its errors are those
// of Dial, or say what is wrong with the folder.
func NewShared(ctx context.Context, o SharedOptions) (*Shared, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sessions == 0 {
		o.Sessions = defaultSessions
	}
	switch {
	case o.Timeout == 0:
		o.Timeout = defaultTimeout
	case o.Timeout < 0:
		o.Timeout = 0
	}
	link, err := connect(ctx, transportOptions{dial: o.Dial, clients: 2, senders: o.Sessions, timeout: o.Timeout, log: o.Log})
	if err != nil {
		return nil, err
	}
	root, st, err := findRoot(ctx, link, o.Root)
	if o.NoCheckRoot && errors.Is(err, syscall.ENOENT) {
		root, err = ask(ctx, link, func(s *session) (string, error) { return s.RealPath(o.Root).Wait(context.Background()) })
	}
	if err != nil {
		link.close()
		return nil, err
	}
	shown, err := newView(o.View, o.UID, o.GID, o.Umask, func() (*sftpwire.Stat, error) { return o.View.askLogin(ctx, link, "") })
	if err != nil {
		link.close()
		return nil, err
	}
	s := &Shared{
		o: o, view: shown, link: link, tree: newTree(root), cache: newNameCache(o), log: o.Log, names: semaphore.NewWeighted(allNames),
		reads: newReadBudget(readBytes - smallBytes), room: semaphore.NewWeighted(writeBytes),
		files: map[Handle]*sharedFile{}, leaving: map[*sharedFile]struct{}{}, dirs: map[Handle]*openDir{},
	}
	s.tree.cache = s.cache
	if st == nil {
		st = &sftpwire.Stat{Permissions: TypeDir | 0o755}
	}
	s.rootStat.Store(st)
	s.space.Store(new(saneStatFS(nil)))
	s.next = newFilesAhead(link.ctx, s, smallBytes/2)
	s.tasks.Go(s.identify)
	return s, nil
}

// findRoot makes the root's path absolute and proves that it is a folder.
func findRoot(ctx context.Context, link *transport, root string) (string, *sftpwire.Stat, error) {
	show := root
	if root == "" {
		root, show = ".", "the home folder"
	}
	var st *sftpwire.Stat
	abs, err := ask(ctx, link, func(s *session) (string, error) {
		attrs, real := s.Stat(root), s.RealPath(root)
		abs, err := real.Wait(context.Background())
		if err != nil {
			return "", err
		}
		if st, err = stated(attrs); err == nil && saneMode(st.Permissions)&TypeMask != TypeDir {
			err = syscall.ENOTDIR
		}
		return abs, err
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = syscall.ENOENT
	case errors.Is(err, os.ErrPermission):
		err = syscall.EACCES
	case err == nil && !path.IsAbs(abs):
		err = fmt.Errorf("the server gave %q as its absolute path", abs)
	}
	if err != nil {
		return "", nil, &RootError{show, err}
	}
	return abs, st, nil
}

// Close implements [FileSystem].
func (s *Shared) Close() error {
	s.mu.Lock()
	for h, f := range s.files { // of programs that the mount has outlived
		delete(s.files, h)
		s.leaving[f] = struct{}{}
		s.tasks.Go(func() { s.drop(f) })
	}
	s.mu.Unlock()
	s.link.close()
	s.next.wait()
	s.tasks.Wait()
	s.reads.close()
	s.endAhead()
	return nil
}

// Status implements [FileSystem].
func (s *Shared) Status() Status {
	st := Status{Mode: "shared", Inodes: s.tree.size(), Traffic: s.link.traffic(), Pending: s.pending()}
	c, _, err := s.link.state()
	if c != nil && !c.isLost() {
		st.Connected, st.Sessions = true, c.count()
	} else if err != nil {
		st.LinkError = err.Error()
	}
	s.mu.Lock()
	st.Open = len(s.files) + len(s.dirs)
	s.mu.Unlock()
	return st
}

// Forget implements [FileSystem].
func (s *Shared) Forget(ino Ino, n uint64) { s.tree.forget(ino, n) }

// Statfs implements [FileSystem]; a server without statvfs@openssh.com gets
// figures that stand in nobody's way, as in sshfs. While the node is silent, they are
// those that it told last.
func (s *Shared) Statfs(context.Context) (StatFS, error) {
	return always(s.link, func(ctx context.Context) (StatFS, error) {
		v, err := ask(ctx, s.link, func(x *session) (*sftpwire.StatVFS, error) {
			if _, ok := x.Extension(sftpwire.ExtStatVFS); !ok {
				return nil, nil
			}
			return x.StatVFS(context.Background(), s.tree.root)
		})
		if err != nil {
			return StatFS{}, &Error{"statfs", s.tree.root, err}
		}
		figures := saneStatFS(v)
		s.space.Store(&figures)
		return figures, nil
	}, func() StatFS { return *s.space.Load() })
}

// saneStatFS takes from the wire what programs can divide by; nil gives figures
// that stand in nobody's way.
func saneStatFS(v *sftpwire.StatVFS) StatFS {
	if v == nil {
		const fragments = 1 << 40 / 512
		return StatFS{BlockSize: 4096, FragmentSize: 512, Blocks: fragments, Free: fragments, Available: fragments,
			Files: 1 << 30, FilesFree: 1 << 30, NameMax: maxName}
	}
	const most = 1 << 30
	block := min(max(v.Bsize, 512), most)
	fragment := v.Frsize
	if fragment == 0 || fragment > most {
		fragment = block
	}
	return StatFS{
		BlockSize: uint32(block), FragmentSize: uint32(fragment), Blocks: v.Blocks, Free: v.Bfree, Available: v.Bavail,
		Files: v.Files, FilesFree: v.Favail, NameMax: uint32(min(max(v.NameMax, 1), maxName)),
	}
}

// holdPath locks the name of n and returns its path; release unlocks. While it is
// held, the path stays n's as far as this mount is concerned.
func (s *Shared) holdPath(ctx context.Context, n *node) (p string, release func(), err error) {
	if err := rlock(ctx, s.names); err != nil {
		return "", nil, err
	}
	for {
		parent := s.tree.parent(n)
		if parent == nil {
			if n.ino == RootIno {
				return s.tree.root, func() { s.names.Release(1) }, nil
			}
			s.names.Release(1)
			return "", nil, syscall.ENOENT
		}
		if err := rlock(ctx, parent.names); err != nil {
			s.names.Release(1)
			return "", nil, err
		}
		p, ok := s.tree.path(n)
		if ok && s.tree.parent(n) == parent {
			return p, func() { parent.names.Release(1); s.names.Release(1) }, nil
		}
		parent.names.Release(1) // moved meanwhile
	}
}

// holdChild locks the names of the folder dir, alone if change is set, and
// returns the path of name in it.
func (s *Shared) holdChild(ctx context.Context, dir Ino, name string, use nameUse) (n *node, p string, release func(), err error) {
	if err := use.check(name); err != nil {
		return nil, "", nil, err
	}
	if n, err = s.tree.get(dir); err != nil {
		return nil, "", nil, err
	}
	if n.mode != TypeDir {
		return nil, "", nil, syscall.ENOTDIR
	}
	if err := rlock(ctx, s.names); err != nil {
		return nil, "", nil, err
	}
	units := int64(1)
	if use != looksUp {
		units = allNames
	}
	if err := acquire(ctx, n.names, units); err != nil {
		s.names.Release(1)
		return nil, "", nil, err
	}
	release = func() { n.names.Release(units); s.names.Release(1) }
	p, ok := s.tree.path(n)
	if !ok {
		release()
		return nil, "", nil, syscall.ENOENT
	}
	s.used(n)
	return n, path.Join(p, name), release, nil
}

// attr turns what the server says of n into attributes.
func (s *Shared) attr(n *node, st *sftpwire.Stat) Attr {
	a := s.attrBefore(n, st)
	s.tree.saw(n, a)
	if n.ino == RootIno {
		s.rootStat.Store(st)
	}
	return a
}

// attrBefore is attr for what the server has said some time ago.
func (s *Shared) attrBefore(n *node, st *sftpwire.Stat) Attr {
	a := s.view.listed(st)
	a.Ino, a.Nlink = n.ino, s.tree.nlink(n)
	return a
}

func (s *Shared) entry(a Attr) Entry { return s.entryOf(a, 0) }

// entryOf is the entry of what the node told so long ago.
func (s *Shared) entryOf(a Attr, age time.Duration) Entry {
	s.tree.told(a)
	return Entry{Attr: a, NameValid: left(s.o.NameTimeout, s.cache.dir, age), AttrValid: left(s.o.AttrTimeout, s.cache.attr, age)}
}

// left is for how long the kernel may believe what the node told so long ago: no
// longer than its own time, and with it no longer than the longer of both.
func left(kernel, cache, age time.Duration) time.Duration {
	return max(0, min(kernel, max(kernel, cache)-age))
}

// lstat asks for the attributes of a path.
func (s *Shared) lstat(ctx context.Context, p string) (*sftpwire.Stat, error) {
	return ask(ctx, s.link, func(x *session) (*sftpwire.Stat, error) {
		st, err := stated(x.Lstat(p))
		if err == nil && s.view.Follow && saneMode(st.Permissions)&TypeMask == TypeSymlink {
			if followed, err := stated(x.Stat(p)); err == nil { // else it leads nowhere, and is shown as a link
				st = followed
			}
		}
		return st, err
	})
}

// stated waits for attributes that were asked for.
func stated(r sftpwire.StatRequest) (*sftpwire.Stat, error) {
	st, err := r.Wait(context.Background())
	if err != nil {
		return nil, err
	}
	return &st, nil
}

// wireTime is a time as SFTP carries it: whole seconds in 32 bits, what does not
// fit cut off at the ends.
func wireTime(ns int64) uint32 {
	sec := ns / int64(time.Second)
	return uint32(max(0, min(sec, 1<<32-1)))
}
