package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/control"
)

// servedFiles are those of a process without a mount, reached by its control socket. A
// connection does one thing at a time, so that there are as many as are needed at once.
type servedFiles struct {
	place string // the name of the control socket

	mu     sync.Mutex // guards what follows
	idle   []*control.Client
	closed bool
}

// client gives a connection that is idle, or a new one.
func (f *servedFiles) client(ctx context.Context) (*control.Client, error) {
	f.mu.Lock()
	if n := len(f.idle); n > 0 {
		c := f.idle[n-1]
		f.idle = f.idle[:n-1]
		f.mu.Unlock()
		return c, nil
	}
	f.mu.Unlock()
	return control.Dial(ctx, f.place)
}

// put gives a connection back. After an error that the other side did not return it is broken.
func (f *servedFiles) put(c *control.Client, err error) {
	var answered *control.Error
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || err != nil && !errors.As(err, &answered) {
		c.Close()
		return
	}
	f.idle = append(f.idle, c)
}

// do does one request by call, and makes of its error one of the operating system's.
func (f *servedFiles) do(ctx context.Context, op, name string, call func(*control.Client) error) error {
	c, err := f.client(ctx)
	if err == nil {
		err = call(c)
		f.put(c, err)
	}
	var answered *control.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answered) && answered.Errno != 0:
		err = answered.Errno
	case errors.As(err, &answered):
		err = answered
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (f *servedFiles) call(ctx context.Context, op string, r control.FileRequest, result any) error {
	return f.do(ctx, op, r.Path, func(c *control.Client) error { return c.Call(ctx, op, r, result, nil) })
}

func (f *servedFiles) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	var i servedInfo
	if err := f.call(ctx, control.FileLstat, control.FileRequest{Path: name}, &i.told); err != nil {
		return nil, err
	}
	return i, nil
}

func (f *servedFiles) ReadDir(ctx context.Context, name string) ([]fs.FileInfo, error) {
	var found []control.FileInfo
	if err := f.call(ctx, control.FileList, control.FileRequest{Path: name}, &found); err != nil {
		return nil, err
	}
	list := make([]fs.FileInfo, len(found))
	for i := range found {
		list[i] = servedInfo{found[i]}
	}
	return list, nil
}

func (f *servedFiles) MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	return f.call(ctx, control.FileMkdir, control.FileRequest{Path: name, Perm: uint32(perm.Perm())}, nil)
}

func (f *servedFiles) Write(ctx context.Context, name string, perm fs.FileMode, mtime time.Time, from io.Reader) error {
	r := control.FileRequest{Path: name, Perm: uint32(perm.Perm()), Mtime: mtime.UnixNano()}
	return f.do(ctx, control.FileWrite, name, func(c *control.Client) error { return c.Send(ctx, control.FileWrite, r, from, nil) })
}

func (f *servedFiles) Read(ctx context.Context, name string, to io.Writer) error {
	return f.do(ctx, control.FileRead, name, func(c *control.Client) error {
		return c.Fetch(ctx, control.FileRead, control.FileRequest{Path: name}, to, nil)
	})
}

func (f *servedFiles) Rename(ctx context.Context, from, to string) error {
	return f.call(ctx, control.FileRename, control.FileRequest{Path: from, To: to}, nil)
}

func (f *servedFiles) Remove(ctx context.Context, name string) error {
	return f.call(ctx, control.FileRemove, control.FileRequest{Path: name}, nil)
}

// Close hangs up; what was written stays where it is.
func (f *servedFiles) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	var errs []error
	for _, c := range f.idle {
		errs = append(errs, c.Close())
	}
	f.idle = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	return nil
}

// servedInfo is what is told of a file, as fs.FileInfo.
type servedInfo struct{ told control.FileInfo }

func (i servedInfo) Name() string       { return i.told.Name }
func (i servedInfo) Size() int64        { return i.told.Size }
func (i servedInfo) ModTime() time.Time { return time.Unix(0, i.told.Mtime) }
func (i servedInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i servedInfo) Sys() any           { return nil }

func (i servedInfo) Mode() fs.FileMode {
	mode := fs.FileMode(i.told.Mode & 0o777)
	switch i.told.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}
