package vfs

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Inflight is the number of requests that wait for the node.
func Inflight(s *Shared) (n int64) {
	c, _, _ := s.link.state()
	if c != nil {
		for x := range c.all() {
			n += x.inflight.Load()
		}
	}
	return n
}

// AwaitSessions waits until the connection has all sessions that it will have.
func AwaitSessions(ctx context.Context, s *Shared) error {
	for {
		if c, _, _ := s.link.state(); c != nil && c.complete() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// Pending tells what an exclusive file system has not sent, for messages of tests.
func Pending(x *Exclusive) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	tell := func(w *work) {
		state := ""
		for name, is := range map[string]bool{"mark": w.mark != nil, "flying": w.flying != nil, "queued": w.queued, "refused": w.refusal != nil} {
			if is {
				state += " " + name
			}
		}
		_, delayed := x.delayed[w]
		if _, ok := x.putOff[w]; ok {
			delayed = true
		}
		fmt.Fprintf(&b, "%s:%s delayed %v busy %v, %d wait for it", x.pathOfWork(w), state, delayed, w.gate().busy, len(w.gate().waiters))
		if w.n != nil {
			fmt.Fprintf(&b, "; inode %d, to send %b, %d places, %d children pending, %d writers", w.n.ino, w.n.send, len(w.n.places), w.n.pending, w.n.writers)
		} else {
			fmt.Fprintf(&b, "; in inode %d", w.d.parent.ino)
			for what, n := range map[string]*xnode{"here": w.d.local, "there": w.d.remote} {
				if n != nil {
					fmt.Fprintf(&b, ", %s inode %d mode %o", what, n.ino, n.attr.Mode)
					for _, p := range n.places {
						fmt.Fprintf(&b, " placed at %d/%s", p.parent.ino, p.name)
					}
				}
			}
		}
		b.WriteByte('\n')
	}
	for _, n := range x.nodes {
		if n.w != nil {
			tell(n.w)
		}
		for _, d := range n.children {
			if d.w != nil {
				tell(d.w)
			}
		}
	}
	return b.String()
}

// SetJournal makes journals be begun anew at other sizes, and returns those before;
// no file system is open meanwhile.
func SetJournal(size, most int64) (int64, int64) {
	s, m := journalSize, journalMost
	journalSize, journalMost = size, most
	return s, m
}

// Unread is how many bytes were read ahead and are not read.
func Unread(x *Exclusive) int64 {
	x.reading.close() // waits for what is on its way
	x.reading.mu.Lock()
	defer x.reading.mu.Unlock()
	return x.reading.used
}

// Hold keeps anything from being sent until release is called; the journal is short.
func Hold(x *Exclusive) (release func()) {
	set := func(quiet bool) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.quiet = quiet
		x.changed.Broadcast()
	}
	set(true)
	return func() { set(false) }
}

// KeepNothing has no room set aside in journals, as where a file system cannot do so.
func KeepNothing() { tellFactor = 0 }

// Unsynced reports whether the spool holds what is perhaps not on the disk.
func Unsynced(x *Exclusive) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.unsynced) > 0 || x.spool.Unsynced()
}

// SetLeaseIdle changes how often the lease is proved that nobody needs, and returns how
// often it was; no file system is open meanwhile.
func SetLeaseIdle(d time.Duration) time.Duration {
	before := leaseIdle
	leaseIdle = d
	return before
}

// SetSpaceAge changes how old what is known of the node's space may be, and returns how
// old it might be before; no file system is open meanwhile.
func SetSpaceAge(d time.Duration) time.Duration {
	before := spaceAge
	spaceAge = d
	return before
}

// AgeListings makes what is known of names older.
func AgeListings(s *Shared, by time.Duration) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	for _, d := range s.cache.dirs {
		if !d.listed.IsZero() {
			d.listed = d.listed.Add(-by)
		}
		for _, n := range d.names {
			n.asked = n.asked.Add(-by)
		}
	}
}

// AheadEntries bounds a listing that nobody has asked for.
const AheadEntries = aheadEntries

// IsKnown reports whether an open file is known to be what the file f here is.
func IsKnown(s *Shared, h Handle, f string) bool {
	st, err := os.Stat(f)
	if err != nil {
		return false
	}
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	i := &s.file(h).identity
	return !i.wrote && i.known && !i.apart && i.size == st.Size() && i.mtime == st.ModTime().Unix()
}

// FetchedAhead is how many small files wait for who opens them.
func FetchedAhead(s *Shared) int {
	s.small.mu.Lock()
	defer s.small.mu.Unlock()
	return len(s.small.wait)
}

// FetchedAheadBytes is how much they take, with those that are open.
func FetchedAheadBytes(s *Shared) int64 {
	s.small.mu.Lock()
	defer s.small.mu.Unlock()
	return s.small.used
}

// IsOpenOnNode reports whether the node was asked to open a file.
func IsOpenOnNode(s *Shared, h Handle) bool { return s.file(h).remote.isOpen() }

func (t *tree) link(n, parent *node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.anotherLocked(n, parent, name)
}

func (t *tree) rename(from *node, name string, to *node, newName string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renameLocked(from, name, to, newName)
}

// Behind is how much is asked of the node that nobody waits for: listings and attributes.
func Behind(s *Shared) int {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return s.cache.ahead.running
}

// ReadLocal reads content of which somebody has found that it is local. IsMoved tells
// whether it was not any more.
func ReadLocal(x *Exclusive, ino Ino, dest []byte, off int64) error {
	x.mu.Lock()
	n := x.nodes[ino]
	x.mu.Unlock()
	return x.readLocal(n, dest, off)
}

func IsMoved(err error) bool { return err == errMoved }
