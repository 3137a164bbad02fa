package main

import (
	"strings"
	"testing"
	"time"

	"bundlefs/internal/proc"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// On a link with a long way, opening and closing a bundle, with folders above it that have to be
// made, wait for it no more often than is promised, after the SSH handshake.
//
// What is counted is exact when the way is longer than what the programs take in between, and else
// too much: so the way is made longer until the count is as promised.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	deploy := strings.Replace(helloDeploy, "= bundle-", "= deploys/hello/bundle-", 1)
	w := newWorkstation(t, n, n.TargetVia(link), "", deploy)
	count := func(do func()) int64 {
		before := link.Counters().RoundTrips
		do()
		return link.Counters().RoundTrips - before
	}
	const mostOpen, mostClose = 6, 4
	for way := 300 * time.Millisecond; ; way *= 2 {
		link.SetRTT(way)
		handshake := count(func() {
			c, err := remote.Dial(t.Context(), n.TargetVia(link), remote.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		})
		opened := count(func() { w.must(exitOK, "is mounted on", "open", "node1") }) - handshake
		for _, p := range proc.Marked(w.mark) {
			if args := p.String(); strings.Contains(args, "exclusive=") && !strings.Contains(args, "exclusive=-") {
				t.Errorf("the token can be seen: %s", args)
			}
		}
		closed := count(func() { w.must(exitOK, "closed", "close") }) - handshake
		w.nothingLeft(n)
		t.Logf("with %v: handshake %d, open %d, close %d round trips", way, handshake, opened, closed)
		if opened <= mostOpen && closed <= mostClose {
			return
		}
		if way > time.Second {
			t.Fatalf("open took %d round trips after the handshake, close %d", opened, closed)
		}
	}
}
