package vfs

import (
	"testing"
	"time"
)

// road is a link to a node: what is beyond its room queues up.
type road struct {
	w    window
	now  time.Time
	rtt  time.Duration // when it is idle
	each time.Duration // what each action takes of it; 0: nothing
	sent int
}

func newRoad(rtt, each time.Duration) *road {
	return &road{w: newWindow(), now: time.Unix(1e9, 0), rtt: rtt, each: each}
}

// pass fills the window, time and again, for so long.
func (r *road) pass(d time.Duration) {
	for end := r.now.Add(d); r.now.Before(end); {
		n := r.w.limit
		began, answer := r.now, r.now
		for i := range n {
			answer = began.Add(r.rtt + time.Duration(i+1)*r.each)
			r.w.answered(answer, answer.Sub(began))
			r.sent++
		}
		r.now = answer.Add(time.Microsecond)
	}
}

// TestWindow sends over links of all kinds.
func TestWindow(t *testing.T) {
	t.Run("a long link is filled", func(t *testing.T) {
		r := newRoad(200*time.Millisecond, 0)
		if r.pass(5 * time.Second); r.w.limit != windowMost {
			t.Errorf("the window is %d", r.w.limit)
		}
	})
	t.Run("a busy link is not flooded", func(t *testing.T) {
		// 500 actions a second: the idle link holds 5, and 128 take a quarter of a second.
		r := newRoad(10*time.Millisecond, 2*time.Millisecond)
		largest := 0
		for range 600 {
			r.pass(time.Second)
			largest = max(largest, r.w.limit)
		}
		if largest > windowFirst {
			t.Errorf("the window grew to %d", largest)
		}
		if perSecond := r.sent / 600; perSecond < 400 {
			t.Errorf("%d actions a second of 500", perSecond)
		}
	})
	t.Run("a link that becomes longer", func(t *testing.T) {
		for _, rtt := range []time.Duration{30, 60, 100, 200, 800} {
			r := newRoad(time.Millisecond, 0)
			r.pass(100 * time.Millisecond)
			r.now = r.now.Add(time.Minute) // nobody writes
			r.rtt = rtt * time.Millisecond
			r.pass(windowAge + 10*r.rtt)
			if r.w.limit < windowFirst {
				t.Errorf("%v: the window is %d", r.rtt, r.w.limit)
			}
			// And back.
			r.rtt = time.Millisecond
			if r.pass(100 * time.Millisecond); r.w.limit < windowFirst {
				t.Errorf("%v: the window is %d afterwards", r.rtt, r.w.limit)
			}
		}
	})
	t.Run("a link that gets busy and free again", func(t *testing.T) {
		r := newRoad(50*time.Millisecond, 0)
		r.pass(10 * time.Second)
		before := r.w.limit
		r.each = 5 * time.Millisecond // somebody else's download
		if r.pass(30 * time.Second); r.w.limit > before/4 {
			t.Errorf("the window is %d on a busy link, was %d", r.w.limit, before)
		}
		r.each = 0
		if r.pass(10 * time.Second); r.w.limit < before/2 {
			t.Errorf("the window is %d on a free link, was %d", r.w.limit, before)
		}
	})
}
