package vfs

import (
	"context"
	"sync"
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
	RTT         time.Duration `json:"rtt_ns"`         // the shortest of the last few requests that were timed; 0: none yet
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
	rtt                          roundTrip
	names, attrs, listings, data hits
}

// roundTrip is how long the node takes to answer. What a request takes on a machine that is
// busy, or a node, says little of the link: the shortest of the last few counts.
type roundTrip struct {
	mu       sync.Mutex    // guards what follows
	now      time.Duration // 0: not known
	least    time.Duration // of those since that was found
	n        int
	shortest time.Duration // on this connection; 0: not known
}

// roundTrips is how many requests in a row have to take longer until the link does.
const roundTrips = 8

// took is told of a request.
func (r *roundTrip) took(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(d)
	if r.n++; r.n == 1 || d < r.least {
		r.least = d
	}
	if r.now == 0 || d < r.now || r.n == roundTrips {
		r.now, r.n = r.least, 0
	}
}

// measured is told of a request that was made to be timed.
func (r *roundTrip) measured(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(d)
	r.now, r.n = d, 0
}

// connected is measured for the first time on a new connection.
func (r *roundTrip) connected(d time.Duration) {
	r.mu.Lock()
	r.shortest = 0
	r.mu.Unlock()
	r.measured(d)
}

// note looks for the shortest; mu is held.
func (r *roundTrip) note(d time.Duration) {
	if r.shortest == 0 || d < r.shortest {
		r.shortest = d
	}
}

const (
	// flightLeast is what is on its way to a node that is near, in bytes.
	flightLeast = 1 << 20
	// flightRate is how fast a link may be, in bytes a second, to be filled.
	flightRate = 400 << 20
)

// flight is how much data is worth to be on its way to the node at a time, in bytes, at most most.
// What is more than the link holds waits in the sshd of the node, which moves it around in its
// memory for each packet that it takes out: the more waits, the slower it gets.
func (r *roundTrip) flight(most int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shortest == 0 {
		return most
	}
	return min(flightLeast+int64(r.shortest.Seconds()*flightRate), most)
}

func (r *roundTrip) read() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
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
		In: m.in.Load(), Out: m.out.Load(), RTT: m.rtt.read(), Connections: m.connections.Load(), Since: since,
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
		t.metrics.rtt.measured(time.Since(start))
	}
}
