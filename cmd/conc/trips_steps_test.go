package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/testnode"
)

// A remote step waits for a link with a long way at most twice, beside its work, on all connections
// together. What the steps of a run have in common is not counted: many steps are compared with one.
//
// As in TestRoundTrips, the way is made longer until the count is as promised.
func TestStepRoundTrips(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	const more, most = 8, 2
	var list strings.Builder
	for i := range more + 1 {
		fmt.Fprintf(&list, "s%d = remote run :\n", i)
	}
	w := newWorkstation(t, n, n.TargetVia(link), "", helloDeploy+"\n[jobs:many]\n"+list.String())
	w.must(exitOK, "is mounted on", "open", "node1")
	trips := func(last string) (sum int) {
		before := link.Counters().RoundTrips
		w.must(exitOK, "many: OK", "run", "node1", "many", "--to", last)
		for i, after := range link.Counters().RoundTrips {
			sum += int(after)
			if i < len(before) {
				sum -= int(before[i])
			}
		}
		return sum
	}
	for way := 150 * time.Millisecond; ; way *= 2 {
		link.SetRTT(way)
		one, all := trips("s0"), trips(fmt.Sprintf("s%d", more))
		t.Logf("with %v: %d round trips for one step, %d for %d", way, one, all, more+1)
		if all-one <= most*more {
			break
		}
		if way > 500*time.Millisecond {
			t.Fatalf("more than %d round trips a step", most)
		}
	}
	link.SetRTT(0)
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}
