package vfs

import (
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	var r roundTrip
	const ms = time.Millisecond
	took := func(d time.Duration, n int) {
		for range n {
			r.took(d)
		}
	}
	is := func(want time.Duration, when string) {
		t.Helper()
		if got := r.read(); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	is(0, "at first")
	took(30*ms, 1)
	is(30*ms, "after one request")
	took(10*ms, 1)
	is(10*ms, "after a shorter one")
	took(50*ms, roundTrips-1)
	is(10*ms, "while few took longer")
	took(40*ms, 1)
	is(40*ms, "when many took longer: the shortest of them")
	r.measured(20 * ms)
	is(20*ms, "when it was measured")
	took(60*ms, roundTrips)
	is(60*ms, "when the link has become slower")
}

// What is on its way fills the link, and grows with the shortest of all round trips: those that wait
// behind data say nothing of it.
func TestFlight(t *testing.T) {
	const most = 24 << 20
	var r roundTrip
	if got := r.flight(most); got != most {
		t.Errorf("nothing is known: %d bytes", got)
	}
	r.connected(10 * time.Millisecond)
	near := r.flight(most)
	if near <= flightLeast || near >= most/2 {
		t.Errorf("10 ms: %d bytes", near)
	}
	for range 100 {
		r.took(time.Second)
	}
	if got := r.flight(most); got != near {
		t.Errorf("behind data: %d bytes, before %d", got, near)
	}
	r.connected(time.Second)
	if got := r.flight(most); got != most {
		t.Errorf("1 s: %d bytes", got)
	}
	r.took(time.Microsecond)
	if got := r.flight(most); got < flightLeast || got > flightLeast+1<<10 {
		t.Errorf("1 µs: %d bytes", got)
	}
}
