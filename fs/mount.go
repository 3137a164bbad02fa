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
)

// Server serves one mount.
type Server struct {
	files      vfs.FileSystem
	kernel     *fuse.Server
	mountpoint string
	done       chan struct{} // closed when the kernel has let go

	closing sync.Once
}

// Mount connects to the node and mounts the folder at mountpoint. It returns when
// the mount is ready for use.
func Mount(ctx context.Context, mountpoint string, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(mountpoint)
	if err != nil {
		return nil, fmt.Errorf("mount point %s: %w", mountpoint, err)
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
func serve(mountpoint string, files vfs.FileSystem, o Options) (*Server, error) {
	mo := &fuse.MountOptions{
		FsName: o.Name, Name: o.Subtype,
		AllowOther: o.AllowOther,
		Options:    mountOptions(o),
		// Root needs no helper; others do. A direct mount does not show what
		// fusermount3 refuses, so there is no falling back.
		DirectMountStrict:    os.Geteuid() == 0,
		MaxWrite:             fuse.MAX_KERNEL_WRITE,
		MaxReadAhead:         fuse.MAX_KERNEL_WRITE,
		MaxBackground:        64,
		DisableXAttrs:        true,
		Debug:                o.Debug,
		Logger:               slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		DisabledCapabilities: fuse.CAP_READDIRPLUS_AUTO, // attributes come with every listing
	}
	if mo.Name == "" {
		mo.Name = "bundlefs"
	}
	kernel, err := fuse.NewServer(newGlue(files, o.Log), mountpoint, mo)
	if err != nil {
		return nil, err
	}
	s := &Server{files: files, kernel: kernel, mountpoint: mountpoint, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		kernel.Serve()
	}()
	if err := kernel.WaitMount(); err != nil {
		return nil, errors.Join(err, s.Unmount())
	}
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
	if err := s.kernel.Unmount(); err != nil {
		if inUse(s.mountpoint) {
			return fmt.Errorf("unmount %s: %w", s.mountpoint, syscall.EBUSY)
		}
		return fmt.Errorf("unmount %s: %w", s.mountpoint, err)
	}
	<-s.done
	return nil
}

// inUse asks the kernel whether the mount is busy: fusermount3 says so only in words.
func inUse(mountpoint string) bool {
	if os.Geteuid() != 0 {
		return true // what fusermount3 refuses its owner, it refuses since it is busy
	}
	return errors.Is(syscall.Unmount(mountpoint, syscall.MNT_EXPIRE), syscall.EBUSY)
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
