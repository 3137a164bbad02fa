package vfs

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// readBytes is how much memory what was fetched and not read may take, of all
// files of a mount together, with what is on its way.
const readBytes = 20 << 20

// aheadShare is the part of it, out of 8, that may be read ahead.
const aheadShare = 7

// freshTime is for how long what was fetched ahead and is not yet read is not
// dropped for what somebody else wants ahead.
const freshTime = time.Second

// readBudget is the memory for reading of all files of a mount.
type readBudget struct {
	most    int64
	fetches sync.WaitGroup // requests that are under way

	mu      sync.Mutex    // guards what follows, and every readAhead of the mount
	used    int64         // bytes that are there or on their way
	idle    list.List     // of *segment that nobody uses; those that came first in front
	waiting int           // readers that wait for room
	freed   chan struct{} // closed and renewed when there is room again
}

// idleSegment is a segment's place among those that may be dropped.
type idleSegment struct {
	place *list.Element // nil: not among them
	since time.Time
}

func newReadBudget(most int64) *readBudget {
	return &readBudget{most: most, freed: make(chan struct{})}
}

// reserve takes room for what a reader asks for, at the cost of what is not read
// yet; mu is held.
func (b *readBudget) reserve(n int64) bool {
	for b.used+n > b.most && b.used > 0 {
		front := b.idle.Front()
		if front == nil {
			return n == 0
		}
		b.evict(front.Value.(*segment))
	}
	b.used += n
	return true
}

// reserveAhead takes room for what nobody has asked for yet; mu is held.
func (b *readBudget) reserveAhead(n int64) bool {
	if b.waiting > 0 {
		return false
	}
	for b.used+n > b.most*aheadShare/8 {
		front := b.idle.Front()
		if front == nil || time.Since(front.Value.(*segment).idle.since) < freshTime {
			return false
		}
		b.evict(front.Value.(*segment))
	}
	b.used += n
	return true
}

// evict drops a segment that nobody uses; mu is held.
func (b *readBudget) evict(s *segment) {
	b.notIdle(s)
	s.r.remove(s)
	s.settle()
}

// free gives room back; mu is held.
func (b *readBudget) free(n int) {
	b.used -= int64(n)
	if n > 0 {
		b.wake()
	}
}

// wake has those look again that wait for room; mu is held.
func (b *readBudget) wake() {
	if b.waiting > 0 {
		close(b.freed)
		b.freed = make(chan struct{})
	}
}

// setIdle says that s may be dropped; mu is held.
func (b *readBudget) setIdle(s *segment) {
	if s.idle.place == nil {
		s.idle = idleSegment{b.idle.PushBack(s), time.Now()}
		b.wake()
	}
}

// notIdle says that s may not be dropped any more; mu is held.
func (b *readBudget) notIdle(s *segment) {
	if s.idle.place != nil {
		b.idle.Remove(s.idle.place)
		s.idle.place = nil
	}
}

// wait waits until there may be room; mu is held, and let go meanwhile.
func (b *readBudget) wait(ctx context.Context) error {
	freed := b.freed
	b.waiting++
	b.mu.Unlock()
	leave := newLeaving(ctx)
	defer leave.stop()
	err := leave.wait(freed)
	b.mu.Lock()
	b.waiting--
	return err
}

// close waits for the requests of files that were closed.
func (b *readBudget) close() { b.fetches.Wait() }
