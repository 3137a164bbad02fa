package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/proc"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// On a link with a long way, opening and closing a bundle, with folders above it that have to be
// made, wait for it no more often than is promised: opening after the SSH handshake, closing in all,
// since it goes over the connection of the mount program.
//
// Opening makes two connections at once: that which locks, and that of the mount, which has to
// have made its sessions by then, and goes on when the lock is there. So no more of them may be
// made, the first may not take longer than the sessions, and the mount's count is that of all.
//
// What is counted is exact when the way is longer than what the programs take in between, and else
// too much: so the way is made longer until the count is as promised.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	deploy := strings.Replace(helloDeploy, "= bundle-", "= deploys/hello/bundle-", 1)
	w := newWorkstation(t, n, n.TargetVia(link), "", deploy)
	const mostOpen, mostLock, mostClose = 6, 3, 4
	for way := 150 * time.Millisecond; ; way *= 2 {
		link.SetRTT(way)
		c, err := remote.Dial(t.Context(), n.TargetVia(link), remote.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		before := link.Counters().RoundTrips
		handshake := before[len(before)-1]

		w.must(exitOK, "is mounted on", "open", "node1")
		during := link.Counters().RoundTrips
		made := slices.Clone(during[len(before):])
		slices.Sort(made)
		if len(made) != 2 {
			t.Fatalf("open made connections with %v round trips", made)
		}
		locked, opened := made[0]-handshake, made[1]-handshake
		for _, p := range proc.Marked(w.mark) {
			if args := p.String(); strings.Contains(args, "exclusive=") && !strings.Contains(args, "exclusive=-") {
				t.Errorf("the token can be seen: %s", args)
			}
		}

		w.must(exitOK, "closed", "close")
		after := link.Counters().RoundTrips
		if len(after) != len(during) {
			t.Fatalf("close made %d connections", len(after)-len(during))
		}
		closed := int64(0)
		for i, were := range during {
			closed += after[i] - were
		}
		w.nothingLeft(n)
		t.Logf("with %v: handshake %d, lock %d, open %d, close %d round trips", way, handshake, locked, opened, closed)
		if locked <= mostLock && opened <= mostOpen && closed <= mostClose {
			return
		}
		if way > 500*time.Millisecond {
			t.Fatalf("more round trips than %d for the lock, %d for open, %d for close", mostLock, mostOpen, mostClose)
		}
	}
}
