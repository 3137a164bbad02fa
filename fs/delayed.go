package fs

import (
	"context"
	"sync"
	"syscall"

	"bundlefs/fs/vfs"
)

// delayed is a file system that is made when it is first used. Until then it has no more than
// a root of which nothing is known.
type delayed struct {
	open func(ctx context.Context) (vfs.FileSystem, error)
	mode string

	turn chan struct{} // holds one token: whoever has it may open

	mu     sync.Mutex     // guards what follows
	files  vfs.FileSystem // nil until it is made
	err    error          // why it could not be made the last time
	closed bool
}

var _ vfs.FileSystem = (*delayed)(nil)

func newDelayed(open func(ctx context.Context) (vfs.FileSystem, error)) *delayed {
	d := &delayed{open: open, mode: "shared", turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

// known returns the file system if it has been made, or else nil.
func (d *delayed) known() vfs.FileSystem {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files
}

// get makes the file system. Of those who come at the same time one does, and the others wait.
func (d *delayed) get(ctx context.Context) (vfs.FileSystem, error) {
	if f := d.known(); f != nil {
		return f, nil
	}
	select {
	case <-d.turn:
		defer func() { d.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f := d.known(); f != nil {
		return f, nil
	}
	f, err := d.open(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err = err; err != nil {
		return nil, err
	}
	if d.closed {
		f.Close()
		return nil, syscall.ENOTCONN
	}
	d.files = f
	return f, nil
}

// with calls a method that returns one value.
func with[T any](ctx context.Context, d *delayed, call func(vfs.FileSystem) (T, error)) (T, error) {
	f, err := d.get(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return call(f)
}

// do calls a method that returns an error only.
func (d *delayed) do(ctx context.Context, call func(vfs.FileSystem) error) error {
	f, err := d.get(ctx)
	if err != nil {
		return err
	}
	return call(f)
}

func (d *delayed) Lookup(ctx context.Context, parent vfs.Ino, name string) (vfs.Entry, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Entry, error) { return f.Lookup(ctx, parent, name) })
}

func (d *delayed) Forget(ino vfs.Ino, n uint64) {
	if f := d.known(); f != nil {
		f.Forget(ino, n)
	}
}

func (d *delayed) Getattr(ctx context.Context, ino vfs.Ino, h vfs.Handle) (vfs.Entry, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Entry, error) { return f.Getattr(ctx, ino, h) })
}

func (d *delayed) Setattr(ctx context.Context, ino vfs.Ino, h vfs.Handle, set vfs.SetAttr) (vfs.Entry, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Entry, error) { return f.Setattr(ctx, ino, h, set) })
}

func (d *delayed) Readlink(ctx context.Context, ino vfs.Ino) (string, error) {
	return with(ctx, d, func(f vfs.FileSystem) (string, error) { return f.Readlink(ctx, ino) })
}

func (d *delayed) Mkdir(ctx context.Context, parent vfs.Ino, name string, mode uint32) (vfs.Entry, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Entry, error) { return f.Mkdir(ctx, parent, name, mode) })
}

func (d *delayed) Symlink(ctx context.Context, parent vfs.Ino, name, target string) (vfs.Entry, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Entry, error) { return f.Symlink(ctx, parent, name, target) })
}

func (d *delayed) Link(ctx context.Context, ino, parent vfs.Ino, name string) (vfs.Entry, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Entry, error) { return f.Link(ctx, ino, parent, name) })
}

func (d *delayed) Unlink(ctx context.Context, parent vfs.Ino, name string) error {
	return d.do(ctx, func(f vfs.FileSystem) error { return f.Unlink(ctx, parent, name) })
}

func (d *delayed) Rmdir(ctx context.Context, parent vfs.Ino, name string) error {
	return d.do(ctx, func(f vfs.FileSystem) error { return f.Rmdir(ctx, parent, name) })
}

func (d *delayed) Rename(ctx context.Context, oldParent vfs.Ino, oldName string, newParent vfs.Ino, newName string, mode vfs.RenameMode) error {
	return d.do(ctx, func(f vfs.FileSystem) error { return f.Rename(ctx, oldParent, oldName, newParent, newName, mode) })
}

func (d *delayed) Create(ctx context.Context, parent vfs.Ino, name string, flags, mode uint32) (vfs.Entry, vfs.Opened, error) {
	f, err := d.get(ctx)
	if err != nil {
		return vfs.Entry{}, vfs.Opened{}, err
	}
	return f.Create(ctx, parent, name, flags, mode)
}

func (d *delayed) Open(ctx context.Context, ino vfs.Ino, flags uint32) (vfs.Opened, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Opened, error) { return f.Open(ctx, ino, flags) })
}

func (d *delayed) Read(ctx context.Context, h vfs.Handle, dest []byte, off int64) (int, error) {
	return with(ctx, d, func(f vfs.FileSystem) (int, error) { return f.Read(ctx, h, dest, off) })
}

func (d *delayed) Write(ctx context.Context, h vfs.Handle, data []byte, off int64, cached bool) error {
	return d.do(ctx, func(f vfs.FileSystem) error { return f.Write(ctx, h, data, off, cached) })
}

func (d *delayed) Flush(ctx context.Context, h vfs.Handle) error {
	return d.do(ctx, func(f vfs.FileSystem) error { return f.Flush(ctx, h) })
}

func (d *delayed) Fsync(ctx context.Context, h vfs.Handle) error {
	return d.do(ctx, func(f vfs.FileSystem) error { return f.Fsync(ctx, h) })
}

func (d *delayed) Release(h vfs.Handle) {
	if f := d.known(); f != nil {
		f.Release(h)
	}
}

func (d *delayed) OpenDir(ctx context.Context, ino vfs.Ino) (vfs.Opened, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.Opened, error) { return f.OpenDir(ctx, ino) })
}

func (d *delayed) ReadDir(ctx context.Context, h vfs.Handle, again bool) ([]vfs.DirEntry, error) {
	return with(ctx, d, func(f vfs.FileSystem) ([]vfs.DirEntry, error) { return f.ReadDir(ctx, h, again) })
}

func (d *delayed) Instantiate(h vfs.Handle, e vfs.DirEntry) (vfs.Entry, bool) {
	if f := d.known(); f != nil {
		return f.Instantiate(h, e)
	}
	return vfs.Entry{}, false
}

func (d *delayed) ReleaseDir(h vfs.Handle) {
	if f := d.known(); f != nil {
		f.ReleaseDir(h)
	}
}

func (d *delayed) Statfs(ctx context.Context) (vfs.StatFS, error) {
	return with(ctx, d, func(f vfs.FileSystem) (vfs.StatFS, error) { return f.Statfs(ctx) })
}

// Sync has nothing to wait for before the first use.
func (d *delayed) Sync(ctx context.Context, progress func(vfs.Progress)) error {
	if f := d.known(); f != nil {
		return f.Sync(ctx, progress)
	}
	return ctx.Err()
}

func (d *delayed) Ping(ctx context.Context) {
	if f := d.known(); f != nil {
		f.Ping(ctx)
	}
}

// Status tells that nothing is connected yet, and why not if that was tried.
func (d *delayed) Status() vfs.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files != nil {
		return d.files.Status()
	}
	st := vfs.Status{Mode: d.mode, Inodes: 1, LinkError: "the mount was not used yet"}
	if d.err != nil {
		st.LinkError = d.err.Error()
	}
	return st
}

func (d *delayed) Close() error {
	d.mu.Lock()
	f := d.files
	d.closed = true
	d.mu.Unlock()
	if f != nil {
		return f.Close()
	}
	return nil
}
