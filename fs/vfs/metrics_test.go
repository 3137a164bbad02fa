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
