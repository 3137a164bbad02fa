package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// kept are copies of small files that are on the node and whose data is not in
// memory any more: what was just written is likely read. They are in one file
// without a name in the spool's folder, which is filled to its end and then begun
// anew. Nothing of it outlives us. Guarded by Exclusive.mu.
type kept struct {
	file   *os.File // nil: not made yet, or it could not be
	failed bool
	end    int64
	turn   int // how often it was begun
	copies map[Ino]keptCopy
}

// keptCopy is where the whole content of a file is.
type keptCopy struct{ off, size int64 }

// keptMost is how long the file of copies may become.
const keptMost = 256 << 20

// wholeSmall is the content of n if it is in memory as a whole, else nil; mu is held.
func (n *xnode) wholeSmall() []byte {
	d, size := n.data, int64(n.attr.Size)
	if d == nil || d.mem == nil || n.stale || size > int64(len(d.mem)) || !d.local.Covers(0, size) {
		return nil
	}
	return d.mem[:size]
}

// put keeps a copy of the content that the node has; without room for it there is none.
func (k *kept) put(dir string, ino Ino, data []byte) {
	if len(data) == 0 || k.failed {
		return
	}
	if k.file == nil {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil { // not every file system can do that
			k.failed = true
			return
		}
		k.file, k.copies = os.NewFile(uintptr(fd), dir), map[Ino]keptCopy{}
	}
	if k.end+int64(len(data)) > keptMost {
		k.begin()
	}
	if _, err := k.file.WriteAt(data, k.end); err != nil {
		return
	}
	k.copies[ino] = keptCopy{k.end, int64(len(data))}
	k.end += int64(len(data))
}

// begin forgets all copies.
func (k *kept) begin() {
	clear(k.copies)
	k.end = 0
	k.turn++
}

// free forgets all copies and gives back their room on the disk.
func (k *kept) free() {
	k.begin()
	if k.file != nil {
		_ = k.file.Truncate(0) // else it is overwritten
	}
}

func (k *kept) close() error {
	if k.file == nil {
		return nil
	}
	return k.file.Close()
}

// keptOf is the copy of n, if there is one and it is what the node has; mu is held.
func (x *Exclusive) keptOf(n *xnode) (c keptCopy, ok bool) {
	c, ok = x.kept.copies[n.ino]
	return c, ok && n.data == nil && !n.stale && c.size == int64(n.attr.Size)
}

// readKept reads from the copy c of n. mu is held, and let go meanwhile: if the
// copy was not c any more by the end, nothing was read.
func (x *Exclusive) readKept(n *xnode, c keptCopy, dest []byte, off int64) bool {
	turn, file := x.kept.turn, x.kept.file
	x.mu.Unlock()
	_, err := file.ReadAt(dest, c.off+off)
	x.mu.Lock()
	if err != nil {
		delete(x.kept.copies, n.ino)
	}
	now, ok := x.keptOf(n)
	return ok && now == c && x.kept.turn == turn
}
