package vfs

import (
	"context"
	"sync/atomic"
	"time"
)

// Hits counts how often a cache could answer, and how often the node was asked.
type Hits struct {
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
}

// Traffic is what a mount has exchanged with the node since it began, over all its connections.
type Traffic struct {
	In          int64         `json:"bytes_in"`       // SFTP, without what SSH adds
	Out         int64         `json:"bytes_out"`      // the same
	RTT         time.Duration `json:"rtt_ns"`         // of the last request that was timed; 0: none yet
	Connections int64         `json:"connections"`    // how many there have been
	Since       time.Time     `json:"since,omitzero"` // the link is in its present state; zero: never up
	Names       Hits          `json:"names"`          // lookups
	Attributes  Hits          `json:"attributes"`
	Listings    Hits          `json:"listings"`
	Data        Hits          `json:"data"` // reads of programs, not bytes
}

// hits is the counter behind Hits.
type hits struct{ hit, miss atomic.Int64 }

// count notes whether the cache could answer.
func (h *hits) count(hit bool) {
	if hit {
		h.hit.Add(1)
	} else {
		h.miss.Add(1)
	}
}

func (h *hits) read() Hits { return Hits{h.hit.Load(), h.miss.Load()} }

// metrics are the counters of a file system; they belong to its transport.
type metrics struct {
	in, out, connections         atomic.Int64
	rtt                          atomic.Int64 // nanoseconds
	names, attrs, listings, data hits
}

// traffic is what the counters say, with the state of the link.
func (t *transport) traffic() Traffic {
	m := &t.metrics
	t.mu.Lock()
	since := t.lostAt
	if t.current != nil {
		since = t.current.born
	}
	t.mu.Unlock()
	return Traffic{
		In: m.in.Load(), Out: m.out.Load(), RTT: time.Duration(m.rtt.Load()), Connections: m.connections.Load(), Since: since,
		Names: m.names.read(), Attributes: m.attrs.read(), Listings: m.listings.read(), Data: m.data.read(),
	}
}

// Ping implements [FileSystem].
func (s *Shared) Ping(ctx context.Context) { s.link.ping(ctx) }

// Ping implements [FileSystem].
func (x *Exclusive) Ping(ctx context.Context) { x.link.ping(ctx) }

// ping times one small request. Without a connection it does nothing.
func (t *transport) ping(ctx context.Context) {
	c, _, _ := t.state()
	if c == nil || c.isLost() {
		return
	}
	s, start := c.pick(), time.Now()
	if _, err := on(ctx, t, s, func() (string, error) { return s.RealPath(".").Wait(context.Background()) }, nil); err == nil {
		t.metrics.rtt.Store(int64(time.Since(start)))
	}
}
