package vfs

import (
	"context"
	"time"
)

// Ino is an inode number. It is not zero, and the root folder's is [RootIno].
type Ino uint64

// RootIno is the inode number of the root folder, as FUSE prescribes.
const RootIno Ino = 1

// Handle names an open file or folder. Zero is no handle.
type Handle uint64

// The types of file in [Attr.Mode], as in stat(2).
const (
	TypeMask    = 0o170000
	TypeRegular = 0o100000
	TypeDir     = 0o040000
	TypeSymlink = 0o120000
)

// Attr are the attributes of a file.
type Attr struct {
	Ino   Ino
	Mode  uint32 // type and permissions, as st_mode
	Nlink uint32
	UID   uint32
	GID   uint32
	Size  uint64 // bytes
	// Times are nanoseconds since the epoch.
	Atime, Mtime, Ctime int64
}

// IsDir reports whether the attributes are a folder's.
func (a Attr) IsDir() bool { return a.Mode&TypeMask == TypeDir }

// Entry is what a lookup gives: an inode's attributes, and for how long the
// name and the attributes may be taken as true without asking again.
type Entry struct {
	Attr      Attr
	NameValid time.Duration
	AttrValid time.Duration
}

// SetAttr lists changes of attributes; what is nil stays as it is.
type SetAttr struct {
	Mode         *uint32 // permissions, without the type
	UID, GID     *uint32
	Size         *uint64
	Atime, Mtime *int64 // nanoseconds since the epoch
}

// DirEntry is one entry of a listing.
type DirEntry struct {
	Name string
	// Attr holds the attributes as listed; its Ino is zero where the name has
	// no inode number yet.
	Attr Attr

	asked time.Time // in shared mode, when the node was asked for Attr; zero if it is not known
}

// StatFS are the figures of the file system on the node, as statvfs(3).
type StatFS struct {
	BlockSize, FragmentSize uint32
	Blocks, Free, Available uint64 // in fragments
	Files, FilesFree        uint64
	NameMax                 uint32
}

// Opened is the result of opening a file or a folder.
type Opened struct {
	Handle Handle
	// KeepCache says that data the kernel has cached of the file is still good.
	KeepCache bool
	// AttrChanged says that the attributes of the file may be others than the kernel was told before.
	// It has to forget those before it gets this answer: by them it decides where the file ends.
	AttrChanged bool
	// DirectIO asks the kernel not to cache this file.
	DirectIO bool
	// NoFlush says that there is nothing close(2) would wait for: Flush need not be called.
	NoFlush bool
}

// RenameMode says what [FileSystem].Rename does with a name that exists.
type RenameMode int

const (
	RenameReplace   RenameMode = iota // replaced in one moment
	RenameNoReplace                   // EEXIST
)

// Progress tells how far a barrier has come: what is still to be sent.
type Progress struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// FileSystem is a file system as package fs serves it. All methods may be called
// by many goroutines. A context that ends makes the call return early with the
// context's error; a change that was already on its way may still happen then.
// [Errno] turns every error into the number for the kernel.
type FileSystem interface {
	// Lookup finds name in the folder parent and counts one use of its inode.
	// If the name does not exist the error is ENOENT and Entry.NameValid says
	// for how long that may be taken as true.
	Lookup(ctx context.Context, parent Ino, name string) (Entry, error)
	// Forget takes back n uses of an inode.
	Forget(ino Ino, n uint64)

	Getattr(ctx context.Context, ino Ino, h Handle) (Entry, error)
	Setattr(ctx context.Context, ino Ino, h Handle, set SetAttr) (Entry, error)
	Readlink(ctx context.Context, ino Ino) (string, error)

	// Mkdir, Symlink, Link and Create count one use of the inode they return.
	Mkdir(ctx context.Context, parent Ino, name string, mode uint32) (Entry, error)
	Symlink(ctx context.Context, parent Ino, name, target string) (Entry, error)
	Link(ctx context.Context, ino, parent Ino, name string) (Entry, error)
	Unlink(ctx context.Context, parent Ino, name string) error
	Rmdir(ctx context.Context, parent Ino, name string) error
	Rename(ctx context.Context, oldParent Ino, oldName string, newParent Ino, newName string, mode RenameMode) error

	// Create makes a regular file and opens it; flags are those of open(2).
	Create(ctx context.Context, parent Ino, name string, flags, mode uint32) (Entry, Opened, error)
	Open(ctx context.Context, ino Ino, flags uint32) (Opened, error)
	// Read fills dest from offset off. It returns fewer bytes only at the end of the file.
	Read(ctx context.Context, h Handle, dest []byte, off int64) (int, error)
	// Write writes all of data at offset off, or returns an error.
	// cached tells of a page that the kernel wrote back (of a mapped file), which
	// belongs at off even if the file is open for appending.
	Write(ctx context.Context, h Handle, data []byte, off int64, cached bool) error
	// Flush is called at each close(2) of a descriptor.
	Flush(ctx context.Context, h Handle) error
	// Fsync returns when the file's data is on the node's disk.
	Fsync(ctx context.Context, h Handle) error
	// Release ends a handle; nobody is left to be told of an error.
	Release(h Handle)

	OpenDir(ctx context.Context, ino Ino) (Opened, error)
	// ReadDir returns the entries of an open folder. The listing is taken when
	// the handle is first read, and again if the caller asks for it.
	ReadDir(ctx context.Context, h Handle, again bool) ([]DirEntry, error)
	// Instantiate makes entry e of the open folder h known, as a Lookup of its name does.
	Instantiate(h Handle, e DirEntry) (Entry, bool)
	ReleaseDir(h Handle)

	Statfs(ctx context.Context) (StatFS, error)

	// Sync is the barrier: it returns when all that was acknowledged before is
	// on the node. progress, which may be nil, is called now and then.
	Sync(ctx context.Context, progress func(Progress)) error
	Status() Status
	// Ping measures the round-trip time for Status; it is over at once while there
	// is no connection.
	Ping(ctx context.Context)
	// Close ends the file system and its connection.
	Close() error
}

// Status is the state of a mounted file system.
type Status struct {
	Mode      string `json:"mode"`      // "shared" or "exclusive"
	Connected bool   `json:"connected"` // whether the link is up
	LinkError string `json:"link_error,omitempty"`
	Sessions  int    `json:"sessions"` // SFTP sessions that are open
	Inodes    int    `json:"inodes"`   // known to the mount
	Open      int    `json:"open"`     // handles

	Traffic Traffic `json:"traffic"`

	// Of exclusive mode: what is not on the node yet, what the node refuses, and
	// why nothing may be changed any more.
	Pending Progress  `json:"pending"`
	Refused []Refused `json:"refused,omitempty"`
	Fence   string    `json:"fence,omitempty"`
	// Doubt says what may still act on the node although its connection was given up; Unfenced, why
	// the node could not take back what is under way if that happened now.
	Doubt    string `json:"doubt,omitempty"`
	Unfenced string `json:"unfenced,omitempty"`
}
