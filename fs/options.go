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

// Traffic is what a mount has exchanged with the node.
type Traffic = vfs.Traffic

// Progress tells how far a barrier has come.
type Progress = vfs.Progress

// Refused is a change that the node refuses, kept with its data.
type Refused = vfs.Refused

// Link is a connection that was made before there is a mount; see [Connect].
type Link = vfs.Link

// ErrLeaseLost is the error of an Exclusive.Check that finds the folder another's.
var ErrLeaseLost = vfs.ErrLeaseLost

// Exclusive says how a mount in exclusive mode keeps what is not on the node, and
// how it proves that the folder is its own.
type Exclusive struct {
	// Spool is the local folder for it, which is made if it does not exist.
	Spool string
	// SpoolMax is how many bytes may wait to be sent; 0 means 4 GiB.
	SpoolMax int64
	// CacheMax is how many bytes of local disk what was read or written may take, to be
	// read again; 0 means 1 GiB, less than 0 none.
	CacheMax int64
	// LoginFile is a file of the folder that the user on the node has made, by which idmap "user"
	// knows that user's numbers; "" takes those of the home folder.
	LoginFile string
	// Check proves the lease by files of the folder, which it reads through read;
	// nil means that nothing is checked. See vfs.ExclusiveOptions.
	Check func(read func(name string) ([]byte, error)) error
	// Name, if not nil, gives the names through which the folder is reached: see
	// vfs.ExclusiveOptions.
	Name func(n int) string
}

// Options configure a mount.
type Options struct {
	// Dial opens the connection; it is called again after each loss.
	Dial func(ctx context.Context) (Conn, error)
	// Link, if not nil, is used in exclusive mode while it stands. It is the caller's to close
	// when it was not taken.
	Link *Link
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
	// NoAutoCache has the kernel drop it at each open; else it is kept when size and
	// time of the file are the same as at the last open. KernelCache goes before it.
	NoAutoCache bool
	// DirectIO has the kernel cache no data at all.
	DirectIO bool
	// SyncWrites makes each write wait until the node has the data.
	SyncWrites bool
	// NoReadahead reads only what is asked for.
	NoReadahead bool

	// IDMap says how the owners of the node are shown, and what an owner that is
	// set here becomes there: "" and "none" leave the numbers as they are, "user"
	// shows what belongs to the user on the node as the mounting user's, "file" maps
	// by UIDMap and GIDMap, from numbers here to numbers on the node.
	IDMap          string
	UIDMap, GIDMap map[uint32]uint32
	// NoMap says what becomes of a number that UIDMap or GIDMap does not have:
	// "ignore" leaves it as it is; "error", which "" means, makes the request fail.
	NoMap string

	// ContainSymlinks refuses symlinks that lead out of the mount; nil means that
	// it is done. TransformSymlinks makes an absolute target on the node a relative
	// one. FollowSymlinks shows what a symlink points to in its place.
	ContainSymlinks                   *bool
	TransformSymlinks, FollowSymlinks bool
	// DisableHardlink makes link(2) fail with ENOSYS.
	DisableHardlink bool

	// DirCache keeps listings, attributes and targets of symlinks in shared mode;
	// nil means that it does. DcacheTimeout says for how long, and the others for
	// how long attributes, targets and listings are kept in particular; nil is not
	// given. DcacheMaxSize is the number of entries, 0 the default.
	DirCache                                                              *bool
	DcacheTimeout, DcacheStatTimeout, DcacheLinkTimeout, DcacheDirTimeout *time.Duration
	DcacheMaxSize                                                         int
	// SyncReaddir has no listing fetched before somebody asks for it.
	SyncReaddir bool

	// MaxRead and MaxWrite limit the bytes of one request of the kernel; 0 means 1 MiB.
	MaxRead, MaxWrite int
	// SingleThreaded has requests answered one after the other.
	SingleThreaded bool

	// DelayConnect mounts at once, and connects when the mount is first used. It
	// does not go together with Exclusive.
	DelayConnect bool
	// NoCheckRoot mounts even if Root is not there (yet), in shared mode.
	NoCheckRoot bool

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
