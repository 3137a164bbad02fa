package bundle

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Files is the place where the files of a bundle are that is ready for use: the mount, or,
// without one, the process that takes the mount's place. What is written there is on the node
// after the next barrier. Names are relative to the bundle, with slashes; the place itself is ".".
// Errors are *fs.PathError with the errno. It can be used by several goroutines.
type Files interface {
	Lstat(ctx context.Context, name string) (fs.FileInfo, error)
	// ReadDir lists a folder, in no order.
	ReadDir(ctx context.Context, name string) ([]fs.FileInfo, error)
	// MkdirAll makes a folder, and those above it that are missing.
	MkdirAll(ctx context.Context, name string, perm fs.FileMode) error
	// Write makes a new file with all that from gives. A file that is there is fs.ErrExist;
	// when it fails later, a part of the file can be left.
	Write(ctx context.Context, name string, perm fs.FileMode, mtime time.Time, from io.Reader) error
	// Read gives the content of a file to to.
	Read(ctx context.Context, name string, to io.Writer) error
	// Rename replaces what has the new name.
	Rename(ctx context.Context, from, to string) error
	// Remove removes a file, or a folder that is empty.
	Remove(ctx context.Context, name string) error
	Close() error
}

// Files gives the bundle's files. ErrNotOpen when it is not open; control.ErrNotMounted in the
// chain when there is neither a mount nor a process in its place. To be closed by the caller.
func (b *Bundle) Files(ctx context.Context) (Files, error) {
	st, err := b.open()
	if err != nil {
		return nil, err
	}
	if st.MountPoint != None {
		return MountedFiles(st.MountPoint), nil
	}
	f := &servedFiles{place: b.place(st)}
	c, err := f.client(ctx)
	if err != nil {
		return nil, b.explain(err)
	}
	f.put(c, nil)
	return f, nil
}
