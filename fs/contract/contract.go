// Package contract is what every file system of this project must do: one suite
// of tests that runs on a plain folder (the control, which proves the suite), on
// a vfs.FileSystem, and on a mount.
package contract

import (
	"io"
	"maps"
	"testing"
	"time"
)

// Attr is what the suite looks at of a file.
type Attr struct {
	Mode  uint32 // as st_mode
	Nlink uint32
	Ino   uint64
	Size  int64
	Mtime time.Time
}

// Tree is an empty folder to work in. Paths are relative to it; errors are such
// that vfs.Errno knows them.
type Tree interface {
	Lstat(path string) (Attr, error)
	List(path string) ([]string, error) // sorted
	Mkdir(path string, mode uint32) error
	Rmdir(path string) error
	Unlink(path string) error
	Rename(oldPath, newPath string, noReplace bool) error
	Symlink(target, path string) error
	Readlink(path string) (string, error)
	Link(oldPath, newPath string) error
	Chmod(path string, mode uint32) error
	Utimes(path string, atime, mtime time.Time) error
	Truncate(path string, size int64) error
	Open(path string, flags int, mode uint32) (File, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Append(data []byte) error // of a file opened with O_APPEND
	Stat() (Attr, error)
	Truncate(size int64) error
	Sync() error
}

// Run runs the suite; tree gives a fresh empty tree each time.
func Run(t *testing.T, tree func(t *testing.T) Tree) { RunExcept(t, nil, tree) }

// RunExcept runs the suite without the cases named, each with the reason why it
// cannot be met.
func RunExcept(t *testing.T, except map[string]string, tree func(t *testing.T) Tree) {
	left := maps.Clone(except)
	for _, c := range cases {
		if _, ok := left[c.name]; ok {
			delete(left, c.name)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(&check{T: t, Tree: tree(t)})
		})
	}
	if len(left) > 0 {
		t.Errorf("no such cases: %v", left)
	}
}
