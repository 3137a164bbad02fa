package testnode

import (
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Link is a network link in front of an address: what connects to the link is connected to the
// address. Its delay does not limit its rate: bytes wait in a queue, each with the moment at
// which it arrives.
//
// Up is the direction to the address, down the one from it. All connections share the link's
// rate. Its state holds for all connections, those to come included.
type Link struct {
	t      testing.TB
	target string
	port   int
	up     direction
	down   direction

	connections atomic.Int64
	dropping    atomic.Bool    // changed with mu held
	paused      atomic.Bool    // changed with mu held
	quit        chan struct{}  // closed when the link is closed
	running     sync.WaitGroup // the goroutines of the link

	mu       sync.Mutex   // guards what follows; locked before that of a pipe, and that before one of a direction
	listener net.Listener // nil while refusing
	conns    map[*linkConn]struct{}
	trips    []*atomic.Int64 // of all connections that there were
	rtt      time.Duration
	open     chan struct{} // closed while the link neither drops nor pauses
	closed   bool
}

// Counters tells what went over a link.
type Counters struct {
	Connections int64 // accepted since the link was made
	Up, Down    int64 // bytes delivered to and from the address

	// RoundTrips is, of each connection in the order in which they were accepted, how often one after
	// the other something went to the address that was sent after something had come from it. With a
	// delay that is longer than what the program takes between two of them, it is what a slow link is
	// waited for. Without one it can be more, since then what would go side by side is done one after
	// the other.
	RoundTrips []int64
}

// NewLink makes a link to an address (host:port) and closes it when the test ends. Without delay
// or limit it passes bytes on as fast as the machine can.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	l := &Link{t: t, target: target, quit: make(chan struct{}), conns: map[*linkConn]struct{}{}, open: make(chan struct{})}
	close(l.open)
	l.SetRTT(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	for try := 0; l.listener == nil; try++ {
		l.port = randomPort()
		if err := l.listen(); err != nil && try == 50 {
			t.Fatalf("testnode: link: %v", err)
		}
	}
	t.Cleanup(l.close)
	return l
}

// Addr returns the address to connect to, 127.0.0.1:port.
func (l *Link) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port)) }

// Port returns the port to connect to on 127.0.0.1.
func (l *Link) Port() int { return l.port }

// Counters returns what went over the link so far.
func (l *Link) Counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := Counters{Connections: l.connections.Load(), Up: l.up.delivered.Load(), Down: l.down.delivered.Load()}
	for _, down := range l.trips {
		n.RoundTrips = append(n.RoundTrips, down.Load())
	}
	return n
}

// SetRTT sets the round-trip time: each direction delays by half of it. Connecting takes a round
// trip and a half until the address sees the connection, as on a real link. What is under way keeps its delay.
func (l *Link) SetRTT(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rtt = d
	l.up.setDelay(d / 2)
	l.down.setDelay(d / 2)
}

// SetBandwidth limits each direction to a rate in bytes per second; 0 is no limit.
func (l *Link) SetBandwidth(bytesPerSecond int64) {
	l.up.setRate(bytesPerSecond)
	l.down.setRate(bytesPerSecond)
}

// Drop cuts the link silently: bytes under way and bytes sent from now on vanish, and so does the
// news that one side has closed. Connections stay open on both sides. New ones are accepted,
// since that is done by the kernel, but get no answer.
func (l *Link) Drop() { l.set(&l.dropping, true) }

// Pause holds all bytes without losing any, as a long stall does.
func (l *Link) Pause() { l.set(&l.paused, true) }

// Resume ends Pause.
func (l *Link) Resume() { l.set(&l.paused, false) }

// set changes one of the two states that hold bytes back.
func (l *Link) set(state *atomic.Bool, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.dropping.Load() || l.paused.Load()
	state.Store(on)
	is := l.dropping.Load() || l.paused.Load()
	switch {
	case is && !was:
		l.open = make(chan struct{})
	case was && !is:
		close(l.open)
	}
	for c := range l.conns {
		c.changed()
	}
}

// Reset ends all connections with a TCP reset on both sides. New ones are accepted.
func (l *Link) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.reset()
	}
}

// Refuse makes the link refuse new connections, as a node without sshd does. Those that are open
// stay.
func (l *Link) Refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
}

// Heal ends Drop, Pause and Refuse. A connection never goes on with a hole in it: those that lost
// bytes are reset, those that lost none go on.
func (l *Link) Heal() {
	l.t.Helper()
	l.mu.Lock()
	for c := range l.conns {
		if c.lossy() {
			c.reset()
		}
	}
	l.mu.Unlock()
	l.set(&l.dropping, false)
	l.set(&l.paused, false)
	var err error
	if !await(func() bool { err = l.accept(); return err == nil }) {
		l.t.Errorf("testnode: link: %v", err)
	}
}

// accept listens again after Refuse.
func (l *Link) accept() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.listener != nil {
		return nil
	}
	return l.listen()
}

// AfterUp calls f once, when n more bytes have been delivered to the address, exactly there: the
// byte after them waits until f returns. f may cut the link, kill the node, or call AfterUp again; a
// second call before that replaces the first.
func (l *Link) AfterUp(n int64, f func()) { l.up.setTrigger(n, f) }

// listen opens the link's port. Called with the lock held.
func (l *Link) listen() error {
	listener, err := net.Listen("tcp", l.Addr())
	if err != nil {
		return err
	}
	l.listener = listener
	l.running.Go(func() {
		for {
			c, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				l.t.Errorf("testnode: link: %v", err)
				return
			}
			l.add(c.(*net.TCPConn))
		}
	})
	return nil
}

// add takes a new connection on.
func (l *Link) add(client *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		client.Close()
		return
	}
	c, err := newLinkConn(l, client)
	if err != nil {
		client.Close()
		l.t.Errorf("testnode: link: %v", err)
		return
	}
	l.connections.Add(1)
	l.trips = append(l.trips, &c.down.trips)
	l.conns[c] = struct{}{}
	l.running.Go(func() {
		c.run()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	})
}

// close resets all connections and waits until nothing of the link runs any more.
func (l *Link) close() {
	l.mu.Lock()
	l.closed = true
	close(l.quit)
	if l.listener != nil {
		l.listener.Close()
	}
	for c := range l.conns {
		c.reset()
	}
	l.mu.Unlock()
	l.running.Wait()
}
