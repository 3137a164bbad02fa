package vfs

import (
	"time"

	"bundlefs/internal/sftpwire"
)

// fileState is what is known of a file's content on the node beside its
// attributes; tree.mu guards it.
type fileState struct {
	pending int // handles with data that the node does not have yet

	identity // of what has the name, since the node last told of it while it was not open
	// end is its size on the node as far as it follows from what was acknowledged;
	// less than 0: it does not.
	end int64

	// What it was when it was last opened, which the kernel's data is of.
	kept   bool
	size   uint64
	mtime  int64
	opened time.Time
}

// keepAge is how much older than the moment of looking at it a file's time must be
// for the same time to mean the same content later: times on the node are whole
// seconds, and its clock may be another than ours.
const keepAge = 10 * time.Second

// wasOpened takes note of the attributes with which n was opened, and reports
// whether the data that the kernel has of it is still good.
func (t *tree) wasOpened(n *node, a Attr) (keep bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &n.file
	keep = f.kept && f.size == a.Size && f.mtime == a.Mtime && f.opened.UnixNano()-a.Mtime > int64(keepAge)
	f.kept, f.size, f.mtime = true, a.Size, a.Mtime
	if !keep {
		f.opened = time.Now()
	}
	if f.pending == 0 {
		f.end = int64(a.Size)
	}
	return keep
}

// queued notes that a handle of n has data that the node lacks; sent that it has
// none any more.
func (t *tree) queued(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.file.pending++
	t.touchLocked(n)
}

func (t *tree) sent(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.file.pending--
	t.touchLocked(n)
	if n.file.pending == 0 {
		t.wonderLocked(n)
	}
}

// writing notes that n will be written up to end, or at its end if that is less than 0.
func (t *tree) writing(n *node, end, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range n.identitiesLocked() {
		i.begin()
		if end < 0 {
			i.high += bytes
		} else {
			i.high = max(i.high, end)
		}
	}
	t.touchLocked(n)
}

// written notes that the node has taken data up to end, or at the end of the file.
func (t *tree) written(n *node, end, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &n.file
	switch {
	case f.end < 0:
	case end < 0:
		f.end += bytes
	default:
		f.end = max(f.end, end)
	}
	for _, i := range n.identitiesLocked() {
		i.low = max(i.low, end)
	}
	t.touchLocked(n)
}

// cutting notes that the size of n is set.
func (t *tree) cutting(n *node, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range n.identitiesLocked() {
		i.begin()
		i.low, i.high = min(i.low, size), max(i.high, size)
	}
	n.file.end = size
	t.touchLocked(n)
}

// isSame reports whether attributes can be those of n, by what its name was known for.
func (t *tree) isSame(n *node, st sftpwire.Stat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.file.identity.is(&st)
}

// end is the size of n on the node as it follows from what was acknowledged, if it
// does, and only one handle has data that was not.
func (t *tree) end(n *node) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.file.end, n.file.end >= 0 && n.file.pending == 1
}

// setEnd corrects it.
func (t *tree) setEnd(n *node, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.file.end = end
}

// isPending reports whether the node lacks data of n.
func (t *tree) isPending(n *node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.file.pending > 0
}

// handles are the open files of n.
func (t *tree) handles(n *node) []*sharedFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*sharedFile(nil), n.open...)
}

// changeSeen counts how often the node has told another size or time of n, and tells
// the size.
func (t *tree) changeSeen(n *node) (times uint64, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.seenAs, int64(n.seen.Size)
}
