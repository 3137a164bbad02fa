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

	"bundlefs/fs/vfs"
	"bundlefs/internal/mountpoint"
)

// Server serves one mount.
type Server struct {
	files      vfs.FileSystem
	mountpoint string        // absolute, without symlinks
	done       chan struct{} // closed when the kernel has let go

	closing sync.Once
}

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
	files, err := vfs.NewShared(ctx, vfs.SharedOptions{
		Dial: o.Dial, Root: o.Root,
		NameTimeout: o.EntryTimeout, AttrTimeout: o.AttrTimeout, NegativeTimeout: o.NegativeTimeout,
		UID: o.UID, GID: o.GID, Umask: o.Umask, Sessions: o.Sessions, Timeout: o.Timeout, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	s, err := serve(abs, files, o)
	if err != nil {
		files.Close()
		return nil, fmt.Errorf("mount at %s: %w", abs, err)
	}
	return s, nil
}

// serve makes the mount of a file system and waits until the kernel uses it.
func serve(dir string, files vfs.FileSystem, o Options) (*Server, error) {
	subtype := o.Subtype
	if subtype == "" {
		subtype = "bundlefs"
	}
	fd, err := mountKernel(dir, kernelOptions{
		source: o.Name, subtype: subtype, allowOther: o.AllowOther || o.AllowRoot, words: mountOptions(o),
	})
	if err != nil {
		return nil, err
	}
	var raw fuse.RawFileSystem = newGlue(files, o.Log)
	if o.AllowRoot && !o.AllowOther {
		raw = &ownerOnly{RawFileSystem: raw, owner: uint32(os.Geteuid())}
	}
	kernel, err := fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{
		MaxWrite:             maxRequest,
		MaxReadAhead:         maxRequest,
		MaxBackground:        64,
		DisableXAttrs:        true,
		Debug:                o.Debug,
		Logger:               slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		DisabledCapabilities: fuse.CAP_READDIRPLUS_AUTO, // attributes come with every listing
	})
	if err != nil {
		return nil, errors.Join(err, mountpoint.Unmount(dir, true))
	}
	s := &Server{files: files, mountpoint: dir, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		kernel.Serve()
	}()
	return s, nil
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
// error is EBUSY, and the mount stays.
func (s *Server) Unmount() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	err := mountpoint.Unmount(s.mountpoint, false)
	if err == nil {
		<-s.done
		return nil
	}
	m, findErr := mountpoint.Find(s.mountpoint)
	if findErr != nil || m != nil {
		return err
	}
	// Somebody else has unmounted it. If they did so lazily, it goes on for those
	// who use it.
	select {
	case <-s.done:
		return nil
	case <-time.After(detachTime):
		return fmt.Errorf("unmount %s: detached, but still in use: %w", s.mountpoint, syscall.EBUSY)
	}
}

// detachTime is how long the kernel may take to let go of what is unmounted.
const detachTime = 2 * time.Second

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

// Sync is the barrier: it returns when all that was acknowledged before is on the
// node. progress may be nil.
func (s *Server) Sync(ctx context.Context, progress func(Progress)) error {
	return s.files.Sync(ctx, progress)
}

// seconds splits a duration as FUSE carries it.
func seconds(d time.Duration) (sec uint64, nsec uint32) {
	d = max(d, 0)
	return uint64(d / time.Second), uint32(d % time.Second)
}
