package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bundlefs/fs/paths"
	"bundlefs/fs/vfs"
	"bundlefs/internal/mountpoint"
)

// Server serves one mount.
type Server struct {
	files      vfs.FileSystem
	mountpoint string        // absolute, without symlinks; "" when there is no mount
	device     string        // MAJOR:MINOR of the mount, "" when not known
	done       chan struct{} // closed when the kernel has let go
	times      *latencies

	closing sync.Once
	ending  sync.Once // closes done where there is no kernel
}

// Open connects to the node and takes the folder without mounting it: the files are reached
// by [Server.Tree], all else is as with a mount.
func Open(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	files, err := newFiles(ctx, o)
	if err != nil {
		return nil, err
	}
	return &Server{files: files, done: make(chan struct{}), times: new(latencies)}, nil
}

// Tree gives the files by their names. The kernel, where there is a mount, does not learn of
// what is changed by it.
func (s *Server) Tree() paths.Tree { return paths.Tree{FS: s.files} }

// Mount connects to the node and mounts the folder on the folder dir. It returns when
// the mount is ready for use.
func Mount(ctx context.Context, dir string, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs) // as the kernel's table of mounts has it
	}
	if err != nil {
		return nil, fmt.Errorf("mount point %s: %w", dir, err)
	}
	var files vfs.FileSystem
	if o.DelayConnect && o.Exclusive == nil {
		files = newDelayed(func(ctx context.Context) (vfs.FileSystem, error) { return newFiles(ctx, o) })
	} else if files, err = newFiles(ctx, o); err != nil {
		return nil, err
	}
	s, err := serve(abs, files, o)
	if err != nil {
		files.Close()
		return nil, fmt.Errorf("mount at %s: %w", abs, err)
	}
	return s, nil
}

// Connect makes the connection of a mount in exclusive mode before that: while it is not known yet
// whether the folder is ours. Options.Link takes it.
func Connect(ctx context.Context, o Options) (*Link, error) {
	return vfs.Connect(ctx, vfs.ExclusiveOptions{Dial: o.Dial, Sessions: o.Sessions, Timeout: o.Timeout, Log: o.Log})
}

// newFiles makes the file system of the mode that is asked for.
func newFiles(ctx context.Context, o Options) (vfs.FileSystem, error) {
	if e := o.Exclusive; e != nil {
		return vfs.NewExclusive(ctx, vfs.ExclusiveOptions{
			Dial: o.Dial, Link: o.Link, Root: o.Root, Spool: e.Spool, SpoolMax: e.SpoolMax, CacheMax: e.CacheMax, Check: e.Check, Name: e.Name,
			UID: o.UID, GID: o.GID, Umask: o.Umask, Sessions: o.Sessions, Timeout: o.Timeout, Log: o.Log,
			View: o.view(),
		})
	}
	return vfs.NewShared(ctx, o.shared())
}

// shared are the options of shared mode.
func (o Options) shared() vfs.SharedOptions {
	return vfs.SharedOptions{
		Dial: o.Dial, Root: o.Root, NoCheckRoot: o.NoCheckRoot,
		NameTimeout: o.EntryTimeout, AttrTimeout: o.AttrTimeout, NegativeTimeout: o.NegativeTimeout,
		UID: o.UID, GID: o.GID, Umask: o.Umask, Sessions: o.Sessions, Timeout: o.Timeout, Log: o.Log,
		KernelCache: o.KernelCache, NoAutoCache: o.NoAutoCache, DirectIO: o.DirectIO, SyncWrites: o.SyncWrites, NoReadahead: o.NoReadahead,
		View: o.view(), Cache: o.cache(),
	}
}

// serve makes the mount of a file system and waits until the kernel uses it.
func serve(dir string, files vfs.FileSystem, o Options) (*Server, error) {
	subtype := o.Subtype
	if subtype == "" {
		subtype = "bundlefs"
	}
	fd, err := mountKernel(dir, kernelOptions{
		source: o.Name, subtype: subtype, allowOther: o.AllowOther || o.AllowRoot, words: mountOptions(o),
		maxRead: atMost(o.MaxRead),
	})
	if err != nil {
		return nil, err
	}
	kernel, err := newLoop(fd, o.Log)
	if err != nil {
		return nil, errors.Join(err, mountpoint.Unmount(dir, true))
	}
	glue := newGlue(files, o.Log, kernel.calls, kernel.InvalidateAttr)
	var raw fuse.RawFileSystem = glue
	if o.AllowRoot && !o.AllowOther {
		raw = &ownerOnly{RawFileSystem: raw, owner: uint32(os.Geteuid())}
	}
	var more uint64
	if o.Exclusive == nil {
		more = fuse.CAP_ATOMIC_O_TRUNC // a file is cut in the round trip that opens it
	}
	err = kernel.greet(raw, &fuse.MountOptions{
		MaxWrite:     atMost(o.MaxWrite),
		MaxReadAhead: atMost(o.MaxRead),
		SyncRead:     o.NoReadahead,
		// In exclusive mode an answer may have to wait until the kernel has dropped something.
		SingleThreaded:       o.SingleThreaded && o.Exclusive == nil,
		MaxBackground:        64,
		DisableXAttrs:        true,
		Debug:                o.Debug,
		Logger:               slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		DisabledCapabilities: fuse.CAP_READDIRPLUS_AUTO, // attributes come with every listing
		ExtraCapabilities:    more,
		// The only writer says itself when the kernel's data is old.
		ExplicitDataCacheControl: o.Exclusive != nil,
	})
	if err != nil {
		kernel.file.Close()
		return nil, errors.Join(err, mountpoint.Unmount(dir, true))
	}
	if x, ok := files.(*vfs.Exclusive); ok {
		x.SetNotifier(kernel)
	}
	s := &Server{files: files, mountpoint: dir, done: make(chan struct{}), times: glue.times}
	if m, err := mountpoint.Find(dir); err == nil && m != nil {
		s.device = m.Device
	}
	go func() {
		defer close(s.done)
		kernel.serve()
	}()
	return s, nil
}

// atMost is a limit to the bytes of a request.
func atMost(given int) int {
	if given <= 0 {
		return MostRequest
	}
	return min(given, MostRequest)
}

// mountOptions are the options that go to the kernel or to fusermount3.
func mountOptions(o Options) []string {
	l := append([]string(nil), o.MountOptions...)
	if o.ReadOnly {
		l = append(l, "ro")
	}
	if o.DefaultPermissions {
		l = append(l, "default_permissions")
	}
	return l
}

// Unmount ends the mount. While a program has a file or folder of it open the
// error is EBUSY, and the mount stays. A [DetachedError] says that it is out of the
// tree and goes on nevertheless.
func (s *Server) Unmount() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if s.mountpoint == "" {
		s.ending.Do(func() { close(s.done) })
		return nil
	}
	if err := mountpoint.Unmount(s.mountpoint, false); err != nil {
		// Somebody else may have unmounted it, perhaps lazily.
		if m, findErr := mountpoint.Find(s.mountpoint); findErr != nil || m != nil {
			return err
		}
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(detachTime):
		return &DetachedError{s.mountpoint, s.device}
	}
}

// detachTime is how long the kernel may take to let go of what is unmounted.
const detachTime = 5 * time.Second

// DetachedError is the error of an unmount after which the mount is no longer in the
// tree of this process, but is served still: it was unmounted lazily while in use, or
// a container or service with mounts of its own has a copy of it.
type DetachedError struct {
	Mountpoint string
	Device     string // MAJOR:MINOR, by which /proc/PID/mountinfo names it; "" if not known
}

func (e *DetachedError) Error() string {
	return "unmount " + e.Mountpoint + ": it is unmounted here, but in use elsewhere, and served until that ends"
}

// Wait returns when the mount has ended, whoever ended it.
func (s *Server) Wait() { <-s.done }

// Done is closed when the mount has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends the file system and its connection, after Wait.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() { err = s.files.Close() })
	return err
}

// Status tells the state of the mount.
func (s *Server) Status() Status { return s.files.Status() }

// Ping measures the round-trip time for Status.
func (s *Server) Ping(ctx context.Context) { s.files.Ping(ctx) }

// Operations tells of the requests that the kernel has made.
func (s *Server) Operations() []Operation { return s.times.read() }

// Sync is the barrier: it returns when all that was acknowledged before is on the
// node. progress may be nil.
func (s *Server) Sync(ctx context.Context, progress func(Progress)) error {
	return s.files.Sync(ctx, progress)
}

// Settle is Sync for who unmounts: where nothing is pending, the node is not asked for anything.
func (s *Server) Settle(ctx context.Context, progress func(Progress)) error {
	if f, ok := s.files.(interface {
		Settle(context.Context, func(vfs.Progress)) error
	}); ok {
		return f.Settle(ctx, progress)
	}
	return s.files.Sync(ctx, progress)
}

// errShared is the error of what only a mount in exclusive mode can do.
var errShared = fmt.Errorf("the mount is not in exclusive mode: %w", syscall.EOPNOTSUPP)

// Drop forgets all that the node may know better, after something has worked in
// the folder on the node; what is not sent stays. In shared mode the timeouts do that.
func (s *Server) Drop() {
	if x, ok := s.files.(*vfs.Exclusive); ok {
		x.Drop()
	}
}

// Retry has what the node has refused under path, relative to the mount, sent again;
// "" is all. It returns how many changes there were.
func (s *Server) Retry(path string) (int, error) {
	x, ok := s.files.(*vfs.Exclusive)
	if !ok {
		return 0, errShared
	}
	return x.Retry(path), nil
}

// Discard gives up the changes under path, relative to the mount, that the node
// refuses: the file is again what the node has. It returns how many there were.
func (s *Server) Discard(path string) (int, error) {
	x, ok := s.files.(*vfs.Exclusive)
	if !ok {
		return 0, errShared
	}
	return x.Discard(path)
}

// seconds splits a duration as FUSE carries it.
func seconds(d time.Duration) (sec uint64, nsec uint32) {
	d = max(d, 0)
	return uint64(d / time.Second), uint32(d % time.Second)
}
