package fs

import (
	"context"
	"log/slog"
	"time"

	"bundlefs/fs/vfs"
)

// Conn is an SSH connection; *remote.Client is one.
type Conn = vfs.Conn

// Status is the state of a mount.
type Status = vfs.Status

// Progress tells how far a barrier has come.
type Progress = vfs.Progress

// Refused is a change that the node refuses, kept with its data.
type Refused = vfs.Refused

// ErrLeaseLost is the error of an Exclusive.Check that finds the folder another's.
var ErrLeaseLost = vfs.ErrLeaseLost

// Exclusive says how a mount in exclusive mode keeps what is not on the node, and
// how it proves that the folder is its own.
type Exclusive struct {
	// Spool is the local folder for it, which is made if it does not exist.
	Spool string
	// SpoolMax is how many bytes may wait to be sent; 0 means 4 GiB.
	SpoolMax int64
	// Check proves the lease by files of the folder, which it reads through read;
	// nil means that nothing is checked. See vfs.ExclusiveOptions.
	Check func(read func(name string) ([]byte, error)) error
}

// Options configure a mount.
type Options struct {
	// Dial opens the connection; it is called again after each loss.
	Dial func(ctx context.Context) (Conn, error)
	// Root is the folder on the node, relative to the user's home; "" is the home.
	Root string
	// Name is the source that the table of mounts shows, as "user@host:dir".
	Name string

	// EntryTimeout, AttrTimeout and NegativeTimeout say for how long the kernel
	// keeps a name, attributes, and that a name does not exist. Zero means that
	// it asks each time.
	EntryTimeout, AttrTimeout, NegativeTimeout time.Duration

	ReadOnly bool
	// AllowOther lets all users in, AllowRoot the mounting user and root; the
	// default is the mounting user alone.
	AllowOther, AllowRoot bool
	// DefaultPermissions makes the kernel check permissions by the attributes shown.
	DefaultPermissions bool
	// UID and GID, if not nil, are shown as the owner of everything.
	UID, GID *uint32
	// Umask, if not nil, takes bits away from the permissions shown.
	Umask *uint32

	// KernelCache has the kernel keep the data of files from one open to the next
	// without asking the node whether they have changed.
	KernelCache bool
	// AutoCache has the kernel keep it when size and time of the file are the same
	// as at the last open; that is what is done without it, too.
	AutoCache bool
	// DirectIO has the kernel cache no data at all.
	DirectIO bool
	// SyncWrites makes each write wait until the node has the data.
	SyncWrites bool
	// NoReadahead reads only what is asked for.
	NoReadahead bool

	// Sessions is the number of SFTP sessions; 0 means 4.
	Sessions int
	// Timeout is how long a request waits for the node; 0 means 30 s, less than
	// 0 for ever.
	Timeout time.Duration

	// Exclusive, if not nil, mounts in exclusive mode: this mount is the folder's
	// only writer. The timeouts above do not count then.
	Exclusive *Exclusive

	// MountOptions are passed to the kernel or fusermount3 as they are.
	MountOptions []string
	// Subtype is the type shown behind "fuse."; "" means bundlefs.
	Subtype string

	// Debug logs each request.
	Debug bool
	// Log gets what happens to the link and errors that reach a program as EIO;
	// nil discards it.
	Log *slog.Logger
}
