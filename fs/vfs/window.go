package vfs

import "time"

// window is how many actions may be on their way: it grows while answers come
// as fast as on an idle link and shrinks when they queue up on it.
//
// How fast an idle link is shows when little is on its way. So when no answer has
// come as fast as the fastest known for windowAge, or the window has shrunk to its
// least, few are sent until that is measured anew: a link that has become longer is
// not taken for a busy one.
type window struct {
	limit int
	least time.Duration // round trip of the idle link
	seen  time.Time     // when it was last that short

	probing time.Time     // since when it is measured; zero: it is not
	samples int           // answers to what was asked since
	fastest time.Duration // of them
	back    int           // limit afterwards
}

const (
	windowFirst = 128
	windowLeast = 16
	windowMost  = 1024

	windowAge     = 5 * time.Second
	windowSamples = windowLeast
)

func newWindow() window { return window{limit: windowFirst} }

// answered takes account of one action's time per round trip; the answer came now.
func (w *window) answered(now time.Time, rtt time.Duration) {
	if !w.probing.IsZero() {
		w.measured(now, rtt)
		return
	}
	if w.least == 0 || rtt <= w.least {
		w.least, w.seen = rtt, now
	}
	// Two round trips' worth of waiting in queues is the price of keeping the
	// link busy; more buys nothing.
	const slack = 20 * time.Millisecond
	switch {
	case rtt <= 2*w.least+slack:
		w.limit = min(w.limit+1, windowMost)
		if rtt <= w.least+slack {
			w.seen = now // as good as the shortest: on a fast link no two are the same
		}
	case rtt > 4*w.least+2*slack:
		w.limit = max(w.limit-w.limit/64-1, windowLeast)
	}
	if w.limit == windowLeast || now.Sub(w.seen) > windowAge {
		w.probing, w.samples, w.fastest, w.back = now, 0, 0, w.limit
		w.limit = windowLeast
	}
}

// measured takes account of an answer while the idle link is measured.
func (w *window) measured(now time.Time, rtt time.Duration) {
	if now.Add(-rtt).Before(w.probing) {
		return // it was asked when more was on its way
	}
	if w.samples++; w.samples == 1 || rtt < w.fastest {
		w.fastest = rtt
	}
	if w.samples < windowSamples {
		return
	}
	w.least, w.seen, w.limit = w.fastest, now, w.back
	w.probing = time.Time{}
}
