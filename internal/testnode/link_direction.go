package testnode

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A pipe holds what a fast line has under way, and at least minWindow. More than that would hide
	// a reader that has stalled, less would limit the rate.
	minWindow = 4 << 20
	maxWindow = 256 << 20
	lineRate  = 600 << 20 // bytes per second

	// backlog is how far ahead of its rate a line accepts bytes.
	backlog = 10 * time.Millisecond

	maxChunk = 256 << 10
	minChunk = 1460 // what a packet carries
)

// direction is what all connections of a link share in one direction.
type direction struct {
	delivered atomic.Int64 // bytes

	mu      sync.Mutex // guards what follows
	delay   time.Duration
	rate    int64     // bytes per second; 0 is unlimited
	free    time.Time // when the line has sent what was accepted
	trigger *trigger
}

// trigger is a function to be called after a number of bytes.
type trigger struct {
	left int64 // guarded by the direction's mutex; 0 when the function is about to run
	f    func()
	done chan struct{} // closed when f has returned
}

func (d *direction) setDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

func (d *direction) setRate(rate int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rate = max(rate, 0)
	d.free = time.Time{}
}

// window returns how many bytes a pipe may hold.
func (d *direction) window() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(minWindow, min(maxWindow, int(d.delay.Seconds()*lineRate)))
}

// admit says how many bytes may be read now, and if none, when to ask again.
func (d *direction) admit(now time.Time) (int, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rate == 0 {
		return maxChunk, time.Time{}
	}
	if ahead := d.free.Sub(now); ahead > backlog {
		return 0, d.free.Add(-backlog)
	}
	perBacklog := int(float64(d.rate) * backlog.Seconds())
	return max(minChunk, min(maxChunk, perBacklog)), time.Time{}
}

// send puts n bytes on the line and returns when they arrive.
func (d *direction) send(now time.Time, n int) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rate == 0 {
		return now.Add(d.delay)
	}
	if d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(time.Duration(float64(n) / float64(d.rate) * float64(time.Second)))
	return d.free.Add(d.delay)
}

func (d *direction) setTrigger(n int64, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n <= 0 {
		n = 1
	}
	d.trigger = &trigger{left: n, f: f, done: make(chan struct{})}
}

// grant says how many of n bytes may be delivered, and what is to be called after these.
func (d *direction) grant(n int) (int, func()) {
	for {
		d.mu.Lock()
		t := d.trigger
		switch {
		case t == nil:
			d.mu.Unlock()
			return n, func() {}
		case t.left > int64(n):
			t.left -= int64(n)
			d.mu.Unlock()
			return n, func() {}
		case t.left > 0:
			n = int(t.left)
			t.left = 0
			d.mu.Unlock()
			return n, func() { d.fire(t) }
		}
		d.mu.Unlock()
		<-t.done
	}
}

func (d *direction) fire(t *trigger) {
	t.f()
	d.mu.Lock()
	if d.trigger == t {
		d.trigger = nil
	}
	d.mu.Unlock()
	close(t.done)
}
