package vfs

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bundlefs/internal/sftpwire"
)

// connection is one SSH connection with its sessions.
type connection struct {
	conn    Conn
	pool    atomic.Pointer[pool]
	opening sync.Mutex    // held while a session is added
	whole   chan struct{} // closed when there are as many sessions as there will be
	base    sftpwire.Base // by which name the sessions reach the root
	limit   atomic.Int64  // bytes of data that the server takes in one request; 0 when it has not told
	lost    chan struct{}
	lose    sync.Once
	hung    error        // why it is lost, if its server was silent; set before lost is closed
	heard   atomic.Int64 // when the node last gave a sign of life, in nanoseconds since born
	born    time.Time
	metrics *metrics // of the transport
}

// pool are the sessions of a connection at one moment. The first is enough for everything; the
// others come while it is in use already: a node may take long to start each.
type pool struct {
	sessions []*session // for questions and changes of names, which must not wait behind data
	senders  []*session // for data
	complete bool       // there will be no more
}

// lane counts what is under way on a session.
type lane struct {
	conn     *connection
	inflight atomic.Int64 // requests that wait for the node
}

func (l *lane) self() *lane { return l }

// onLane is a session, or what has one.
type onLane interface {
	self() *lane
	silence() time.Duration
}

// session is one SFTP session.
type session struct {
	*sftpwire.Session
	lane
	stream *channel
}

// openSessions opens the other sessions, side by side, so that their round trips fall together. A
// server may allow fewer (MaxSessions of sshd).
func (c *connection) openSessions(ctx context.Context, more int, opened func(*session)) {
	var opening sync.WaitGroup
	for range more {
		opening.Go(func() {
			if s, err := c.openSession(ctx); err == nil {
				opened(s)
			}
		})
	}
	opening.Wait()
	c.opening.Lock()
	p := *c.pool.Load()
	p.complete = true
	c.pool.Store(&p)
	c.opening.Unlock()
	close(c.whole)
	if o, ok := c.conn.(interface{ Opened() }); ok {
		o.Opened()
	}
}

// add takes a session into use: the first for all, the second for questions in its place, then so
// many for data, and the rest for questions.
func (c *connection) add(s *session, senders int) {
	c.opening.Lock()
	defer c.opening.Unlock()
	var p pool
	if now := c.pool.Load(); now != nil {
		p = *now
	}
	switch {
	case len(p.senders) == 0:
		p.senders, p.sessions = []*session{s}, []*session{s}
	case p.sessions[0] == p.senders[0]:
		p.sessions = []*session{s}
	case len(p.senders) < senders:
		p.senders = append(slices.Clip(p.senders), s)
	default:
		p.sessions = append(slices.Clip(p.sessions), s)
	}
	c.pool.Store(&p)
	if c.isLost() { // nobody else may have seen it
		go s.Close()
	}
}

// count is how many sessions there are by now.
func (c *connection) count() (n int) {
	for range c.all() {
		n++
	}
	return n
}

// complete reports whether all sessions are there that there will be.
func (c *connection) complete() bool { return c.pool.Load().complete }

// sessions and senders are those that there are by now.
func (c *connection) sessions() []*session { return c.pool.Load().sessions }
func (c *connection) senders() []*session  { return c.pool.Load().senders }

// openSession opens a session and greets its server.
func (c *connection) openSession(ctx context.Context) (*session, error) {
	ch, err := c.channel(ctx)
	if err != nil {
		return nil, err
	}
	s, err := sftpwire.New(ctx, ch) // closes ch if it fails
	if err != nil {
		return nil, err
	}
	s.SetBase(&c.base)
	return &session{s, lane{conn: c}, ch}, nil
}

// learnLimits asks how large packets may be. Nobody waits for that: until it is known they are as
// large as every server takes them.
func (c *connection) learnLimits(ctx context.Context) {
	start := time.Now()
	limits, err := c.senders()[0].Limits(ctx)
	if n := min(limits.Read, limits.Write); err == nil && n > basePacket {
		c.metrics.rtt.connected(time.Since(start)) // without the extension nothing was asked
		c.limit.Store(int64(min(n, maxData)))
	}
}

// packet is how many bytes of data one request may have.
func (c *connection) packet() int { return int(max(c.limit.Load(), basePacket)) }

// channel opens a session and notes the signs of life that come on it.
func (c *connection) channel(ctx context.Context) (*channel, error) {
	ch, err := c.conn.OpenSubsystem(ctx, "sftp")
	if err != nil {
		return nil, err
	}
	return &channel{ReadWriteCloser: ch, conn: c}, nil
}

// channel is a session's stream of bytes.
type channel struct {
	io.ReadWriteCloser
	conn  *connection
	heard atomic.Int64 // when there was a sign of life on it, as in connection
}

// alive notes a sign of life.
func (ch *channel) alive() {
	now := int64(time.Since(ch.conn.born))
	ch.heard.Store(now)
	ch.conn.heard.Store(now)
}

func (ch *channel) Read(p []byte) (int, error) {
	n, err := ch.ReadWriteCloser.Read(p)
	if n > 0 {
		ch.conn.metrics.in.Add(int64(n))
		ch.alive()
	}
	return n, err
}

// Write never fails with the io.EOF that a closed SSH channel gives: a read that
// could not be sent would be taken for the end of the file. What is long is written in
// pieces, so that it shows that a slow link takes them.
func (ch *channel) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		start := time.Now()
		n, err := ch.ReadWriteCloser.Write(p[done:min(done+basePacket, len(p))])
		ch.conn.metrics.out.Add(int64(n))
		if done += n; err != nil {
			return done, fmt.Errorf("%w: %v", errLost, err)
		}
		// What did not have to wait has only gone into a buffer here.
		if time.Since(start) > stalled {
			ch.alive()
		}
	}
	return done, nil
}

// silence is how long the node has given no sign of life on any session.
func (c *connection) silence() time.Duration {
	return time.Since(c.born) - time.Duration(c.heard.Load())
}

// silence is how long the session's server has owed an answer without a sign of life. As
// long as it is not known that what it was asked has arrived there, signs of life on the
// other sessions count too: the link may be slow.
func (s *session) silence() time.Duration {
	asked, _ := s.Oldest()
	if asked.IsZero() {
		return 0
	}
	quiet := min(time.Since(asked), time.Since(s.conn.born)-time.Duration(s.stream.heard.Load()))
	if s.conn.settled().After(asked) {
		return quiet
	}
	return min(quiet, s.conn.silence())
}

// settled is up to when all that was sent has arrived: the node has answered a request
// that was sent then.
func (c *connection) settled() time.Time {
	var last time.Time
	for s := range c.all() {
		if at := s.Settled(); at.After(last) {
			last = at
		}
	}
	return last
}

// all are all sessions.
func (c *connection) all() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		p := c.pool.Load()
		if p == nil {
			return
		}
		for i, s := range slices.Concat(p.senders, p.sessions) {
			if i > 0 && s == p.senders[0] {
				continue // the only one
			}
			if !yield(s) {
				return
			}
		}
	}
}

// lent is a connection that others may go on with. Leave closes it if there are none, and tells
// whether there are.
type lent interface{ Leave() bool }

// asking is a connection of which another session may mean to ask the user something.
type asking interface{ Asks() bool }

// fail marks the connection as lost: all its sessions end.
func (c *connection) fail() { c.lose.Do(func() { close(c.lost) }) }

// hang is fail for a connection that stands, and whose server does not answer.
func (c *connection) hang(err error) {
	c.lose.Do(func() {
		c.hung = err
		close(c.lost)
	})
	c.close()
}

func (c *connection) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// close ends the connection before its sessions: they say goodbye, for which a
// link that is stuck has no room. A connection that others go on with stays, and then nobody waits
// for the node, which has to say goodbye too.
func (c *connection) close() {
	c.fail()
	if l, ok := c.conn.(lent); ok && l.Leave() {
		for s := range c.all() {
			go s.Close()
		}
		return
	}
	c.conn.Close()
	for s := range c.all() {
		s.Close()
	}
}

// pick returns a session for questions.
func (c *connection) pick() *session { return idlest(c.sessions()) }

// pickSender returns a session for data.
func (c *connection) pickSender() *session { return idlest(c.senders()) }

// smallTogether is how many small files go over one session before the next is used: together they leave in few
// packets, and are less than what a session has room for in a round trip.
const smallTogether = 24

// pickSmall returns a session for a small file.
func (c *connection) pickSmall() *session {
	for _, s := range c.senders() {
		if s.inflight.Load() < smallTogether {
			return s
		}
	}
	return c.pickSender()
}

// idlest returns the session with the fewest requests under way.
func idlest(l []*session) *session {
	best := l[0]
	for _, s := range l[1:] {
		if s.inflight.Load() < best.inflight.Load() {
			best = s
		}
	}
	return best
}

// why tells why the connection was lost, as far as it is known.
func (c *connection) why() error {
	select {
	case <-c.lost:
		if c.hung != nil {
			return c.hung
		}
	default:
	}
	if e, ok := c.conn.(interface{ Err() error }); ok {
		if err := e.Err(); err != nil {
			return err
		}
	}
	return errLost
}
