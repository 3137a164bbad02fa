package vfs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"bundlefs/fs/spool"
)

// ExclusiveOptions configure an [Exclusive] file system.
type ExclusiveOptions struct {
	// Dial opens the SSH connection, and again after each loss.
	Dial func(ctx context.Context) (Conn, error)
	// Link, if not nil, is a connection that was made before: it is used while it stands, and is
	// the caller's to close when it was not taken.
	Link *Link
	// Root is the folder on the node; relative to the user's home.
	Root string
	// Spool is the local folder that keeps what is not yet on the node. One lease,
	// one folder: it is made if it does not exist and removed when all is sent.
	Spool string
	// Check proves that the lease is still ours: it reads what it needs through
	// open. It is called when mounting and after each reconnect, before anything
	// is sent, by each barrier, and while changes are sent; an error that is
	// [ErrLeaseLost] ends all sending, others are tried again.
	Check func(open func(name string) ([]byte, error)) error
	// Name, if not nil, gives the names through which the folder is reached, in place of Root: the
	// n-th one, from 1, is a symbolic link in the user's home, and one of them exists for as long as
	// the lease is ours. After a connection that was given up the next one takes its place, so that
	// nothing that is still under way by the old one takes effect.
	Name func(n int) string
	// UID, GID and Umask are as in SharedOptions.
	UID, GID *uint32
	Umask    *uint32
	// View is as in SharedOptions; Follow is refused.
	View ViewOptions
	// Sessions is the number of SFTP sessions that send; 0 means 4.
	Sessions int
	// Timeout is how long what needs the node waits for it; as in SharedOptions.
	Timeout time.Duration
	// SpoolMax is how many bytes may wait to be sent before writers are slowed
	// down to the link; 0 means 4 GiB.
	SpoolMax int64
	// CacheMax is how many bytes of local disk what was read or written may take,
	// half of it each, to be read again; 0 means 1 GiB, less than 0 none.
	CacheMax int64
	// Log gets what happens to the link and what the node refuses; nil discards it.
	Log *slog.Logger
}

// ErrLeaseLost says that the folder on the node is somebody else's now.
var ErrLeaseLost = errors.New("lock lost: the bundle is not ours any more")

// Notifier is told which of the kernel's caches have become wrong.
type Notifier interface {
	// InvalidateEntry drops a name, InvalidateInode attributes and data.
	InvalidateEntry(parent Ino, name string)
	InvalidateInode(ino Ino)
}

const (
	defaultSpoolMax = 4 << 30
	defaultCacheMax = 1 << 30

	// A name and its attributes are true until we change them, so the kernel
	// needs to ask only when it has forgotten.
	exclusiveTTL = time.Hour
)

// Exclusive is the file system in exclusive mode: see the package's documentation.
type Exclusive struct {
	o      ExclusiveOptions
	view   view
	link   *transport
	spool  *spool.Spool
	log    *slog.Logger
	tasks  sync.WaitGroup
	ctx    context.Context     // ends with Close
	budget *semaphore.Weighted // bytes of data on their way
	stop   context.CancelFunc

	// paths is held by who sends a path, for reading, and for writing while a
	// folder is renamed on the node, since paths may lead through it. Taken before mu.
	paths sync.RWMutex

	syncing sync.Mutex // held while the spool is brought to the disk; taken before mu

	noting sync.Mutex // held while the spool's note is written; taken before mu

	mu      sync.Mutex // guards what follows, and all nodes and dentries
	changed *sync.Cond // on mu: something that a waiter may wait for
	nodes   map[Ino]*xnode
	root    *xnode
	rootDir string // path of the root on the node
	lastIno Ino

	lastHandle Handle
	files      map[Handle]*xfile
	dirs       map[Handle]*xdir

	recovering bool         // the journal is replayed
	recovered  int          // records that were replayed
	compactAt  int64        // length of the journal at which it is begun anew
	full       bool         // the local disk is: the journal is begun anew as soon as it can be
	owed       [][]byte     // records that there was no room for
	scratch    []byte       // memory for those that are written now
	stuck      bool         // nothing is started until they are written
	keep       int64        // bytes that the journal needs room for, of what it tells of
	unsaid     map[Ino]bool // whose content the node has, which is among the owed
	left       []Ino        // whose data is removed from the spool when the journal says so
	unsynced   map[Ino]bool // whose data in the spool is perhaps not on the disk
	quiet      bool         // nothing is started until it is
	doubts     []*doubt     // changes on the node of which it is not known whether they were made
	clearing   bool         // somebody looks at the node for them
	seq        uint64       // numbers the changes
	sends      uint64       // counts what was sent of contents and attributes
	generation uint64       // of the journal: which nodes it tells of
	marks      markList
	refused    map[*work]struct{} // refused by the node, or waiting for one that was
	ready      []*work            // may be ready to be sent
	delayed    map[*work]struct{} // small changes of files that are still written
	pending    int                // inodes of which something is to be sent
	putOff     map[*work]putOff   // attributes that may soon change again
	running    int                // actions on their way
	window     window
	barriers   int           // callers of Sync and Fsync
	hurried    chan struct{} // has room for one; told when there is one more
	dirtyBytes int64         // to be sent
	storing    int64         // bytes that are being put into the spool
	memBytes   int64         // held by small files
	memVain    time.Time     // when a writer last waited in vain for room in them
	cached     cache
	ahead      ahead
	order      order // of the folder that is read through
	space      space

	fenced      fenced
	fence       error // why nothing may be changed: ErrLeaseLost
	lease       *proof
	putOffTimer bool // sendPutOff will be called
	draining    bool // Close: nothing new is started
	notifier    Notifier
	stats       counters

	buffers sync.Pool // of *[]byte, for data on its way
	reading *readBudget
	fetched *readCache
	next    *filesAhead
}

var _ FileSystem = (*Exclusive)(nil)

// NewExclusive connects to the node, checks the lease and takes up what an
// earlier mount has left in the spool.
func NewExclusive(ctx context.Context, o ExclusiveOptions) (*Exclusive, error) {
	if o.View.Follow {
		return nil, errors.New("follow_symlinks is for shared mode: in exclusive mode a link is a link")
	}
	o.complete()
	sp, err := spool.Open(o.Spool)
	if err != nil {
		return nil, err
	}
	x := &Exclusive{
		o: o, spool: sp, log: o.Log,
		nodes: map[Ino]*xnode{}, files: map[Handle]*xfile{}, dirs: map[Handle]*xdir{},
		refused: map[*work]struct{}{}, delayed: map[*work]struct{}{}, generation: 1, unsynced: map[Ino]bool{},
		putOff: map[*work]putOff{}, window: newWindow(), hurried: make(chan struct{}, 1),
		budget: semaphore.NewWeighted(flyingBytes), reading: newReadBudget(readBytes),
	}
	x.fetched = &readCache{dir: o.Spool, most: o.CacheMax / 2, log: o.Log}
	x.changed = sync.NewCond(&x.mu)
	x.ctx, x.stop = context.WithCancel(context.Background())
	x.next = newFilesAhead(x.ctx, x, x.fetched.room()/8)
	link := o.transport()
	link.check = x.reconnected
	if o.Link.fit() {
		x.link = o.Link.take(link)
	} else {
		x.link, err = connect(ctx, link)
	}
	if err == nil {
		if err = x.start(ctx); err != nil {
			x.stop()
			x.link.close()
			x.tasks.Wait()
		}
	}
	if err != nil {
		x.stop()
		return nil, x.giveUp(err)
	}
	return x, nil
}

// complete puts the defaults in place of what was not given.
func (o *ExclusiveOptions) complete() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sessions == 0 {
		o.Sessions = defaultSessions
	}
	switch {
	case o.Timeout == 0:
		o.Timeout = defaultTimeout
	case o.Timeout < 0:
		o.Timeout = 0
	}
	if o.SpoolMax == 0 {
		o.SpoolMax = defaultSpoolMax
	}
	if o.CacheMax == 0 {
		o.CacheMax = defaultCacheMax
	}
	o.CacheMax = max(o.CacheMax, 0)
}

// transport are the options for its connections.
func (o *ExclusiveOptions) transport() transportOptions {
	return transportOptions{dial: o.Dial, clients: 2, senders: o.Sessions, timeout: o.Timeout, log: o.Log}
}

// giveUp closes the spool of a file system that cannot be; it is kept if there is
// anything in it.
func (x *Exclusive) giveUp(err error) error {
	empty, readErr := x.spool.Empty()
	switch {
	case empty:
		return errors.Join(err, x.spool.Destroy())
	case errors.Is(err, ErrLeaseLost):
		err = &LostError{Spool: x.spool.Dir(), err: err}
	}
	return errors.Join(err, readErr, x.spool.Close())
}

// LostError is the error of a mount whose lease is lost while there is something
// in the spool, which is kept.
type LostError struct {
	Spool string // the folder
	err   error
}

func (e *LostError) Error() string {
	return e.err.Error() + "; what may not have been sent is kept in " + e.Spool
}

func (e *LostError) Unwrap() error { return e.err }

// Hint says what can be done.
func (e *LostError) Hint() string {
	return "nothing of it will be sent unless the owner record on the node is as it was; remove " + e.Spool + " to give it up"
}

// SetNotifier says who serves the kernel.
func (x *Exclusive) SetNotifier(n Notifier) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notifier = n
}

// Close ends the file system. What is not sent stays in the spool for the next
// mount; if nothing is left, the spool is removed.
func (x *Exclusive) Close() error {
	x.mu.Lock()
	x.draining = true
	x.changed.Broadcast()
	x.mu.Unlock()
	x.leaveName()
	x.link.cancel() // first: what fails from now on must not have anybody connect again
	x.stop()
	x.link.close()
	x.next.wait()
	x.closeReaders()
	x.tasks.Wait()
	err := x.fetched.close()
	x.mu.Lock()
	clean := x.marks.n == 0 && len(x.refused) == 0 && len(x.doubts) == 0
	x.mu.Unlock()
	if clean {
		return errors.Join(err, x.spool.Destroy())
	}
	x.syncSpool()
	return errors.Join(err, x.spool.Close())
}

// Forget implements [FileSystem]. The tree is the truth, so nothing of it is
// dropped but inodes that have no name any more.
func (x *Exclusive) Forget(ino Ino, n uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if node := x.nodes[ino]; node != nil {
		node.uses -= min(n, node.uses)
		x.reap(node)
	}
}

func (x *Exclusive) entry(n *xnode) Entry {
	a := n.attr
	a.Nlink = n.nlink()
	return Entry{Attr: a, NameValid: exclusiveTTL, AttrValid: exclusiveTTL}
}
