package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is an SSH connection: sessions of a subsystem are opened over it.
// *remote.Client is one. One that has a method AliveLimit() time.Duration tells with it
// how long the node may owe an answer until the connection counts as lost: 45 s by default,
// 0 for ever. One that others may go on with has a method Leave() bool, which is called in place
// of Close; it returns true if it leaves the connection open for them. One that has a method
// Asks() bool tells with it whether opening a further session may mean to ask the user something:
// then nobody gets the connection before all are open. One that has a method Opened() is told
// by it when there are as many sessions as there will be. One that has a method Output(ctx, command)
// ([]byte, error) runs a command with it, by the login shell, and gives what it prints: by that the
// servers of a connection that was given up are ended.
type Conn interface {
	OpenSubsystem(ctx context.Context, name string) (io.ReadWriteCloser, error)
	Done() <-chan struct{} // closed when the connection is lost
	Close() error
}

const (
	defaultSessions = 4
	defaultTimeout  = 30 * time.Second

	// interruptGrace is how long an interrupted request may still be answered.
	// Programs are interrupted all the time (Go's scheduler signals itself), and
	// an answer within this time spares them a mkdir that was done and yet
	// reported as EINTR.
	interruptGrace = time.Second

	// stalled is how long a write takes at least that waits for the node to take
	// what was sent before.
	stalled = 50 * time.Millisecond

	// openTimeout is how long the sessions of a new connection may take to open.
	openTimeout = 30 * time.Second

	// The pauses between two tries to connect; somebody waits for it at the last one.
	backoffFirst   = 250 * time.Millisecond
	backoffMost    = 30 * time.Second
	backoffAwaited = 2 * time.Second

	// servedTime is how long a connection has to serve until the next loss is one by itself: one that
	// ends sooner is part of the same outage, and the next try waits for longer.
	servedTime = 2 * time.Second

	// againTime is how soon after a request was given up another one belongs to the same wait: the
	// kernel asks for what is to be read page by page, and a program tries one file after the other.
	againTime = time.Second

	// basePacket is the data per request every server must take; a server that
	// announces more gets up to maxData.
	basePacket = 32 << 10
	maxData    = 256<<10 - 1024
)

// errLost is the cause where a connection ended under a request.
var errLost = errors.New("connection to the node lost")

// errClosed is the cause after Close.
var errClosed = errors.New("file system is closed")

// transportOptions configure a transport.
type transportOptions struct {
	dial    func(ctx context.Context) (Conn, error)
	clients int           // sessions for questions
	senders int           // sessions for data; 0: 1
	timeout time.Duration // of a request; 0: never
	log     *slog.Logger
	// check, if not nil, proves a new connection fit for use, after a loss,
	// before anybody gets it.
	check func(ctx context.Context, c *connection) error
}

// transport keeps a connection to the node: dialled again after a loss, with
// growing pauses, for as long as the file system is open.
type transport struct {
	transportOptions
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex    // guards what follows
	current *connection   // nil while there is none
	changed chan struct{} // closed and renewed when current or lastErr changes
	lastErr error         // why there is none
	lostAt  time.Time     // since when; of the outage before, while one has served for less than servedTime
	upAt    time.Time     // since when there is the current one
	gaveUp  time.Time     // when a request was given up the last time
	waiting int           // who cannot go on without one
	wanted  chan struct{} // is sent to when somebody waits, with room for one
	hangs   int           // how often one after the other a server hung
	hungAt  time.Time     // when one did the last time

	vain    atomic.Int64 // who has left a question that is still being asked: see always
	metrics metrics
}

// connect makes the first connection; its failure is the caller's.
func connect(ctx context.Context, o transportOptions) (*transport, error) {
	l, err := newLink(ctx, o)
	if err != nil {
		return nil, err
	}
	return l.take(o), nil
}

// open dials once and opens a session; the others follow.
func (t *transport) open(ctx context.Context) (*connection, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{conn: conn, lost: make(chan struct{}), whole: make(chan struct{}), born: time.Now(), metrics: &t.metrics}
	// A handshake on a link that is stuck ends with the connection only.
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	stop := context.AfterFunc(opening, func() { conn.Close() })
	questions, senders := t.clients, max(t.senders, 1)
	opened := func(s *session) {
		c.add(s, senders)
		t.tasks.Go(func() { <-s.Done(); c.fail() })
	}
	first, err := c.openSession(opening)
	a, ok := conn.(asking)
	together := ok && a.Asks()
	if err == nil {
		opened(first)
		if together {
			c.openSessions(opening, questions+senders-1, opened)
		}
	}
	if !stop() {
		err = context.Cause(opening)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open sftp session: %w", err)
	}
	t.metrics.connections.Add(1)
	t.tasks.Go(func() { t.watch(c) })
	t.tasks.Go(func() { c.learnLimits(t.ctx) })
	if !together {
		t.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(t.ctx, openTimeout)
			defer cancel()
			c.openSessions(ctx, questions+senders-1, opened)
		})
	}
	return c, nil
}

// keep waits for the loss of each connection and makes the next.
func (t *transport) keep() {
	pause := time.Duration(0) // before the next try
	began := time.Now()
	for {
		t.mu.Lock()
		c := t.current
		t.mu.Unlock()
		select {
		case <-t.ctx.Done():
			c.close()
			return
		case <-c.lost:
		case <-c.conn.Done():
		}
		err := c.why()
		t.set(nil, err)
		c.close()
		if time.Since(began) >= servedTime {
			pause = 0
		}
		t.log.Warn("connecting again", "error", err, "in", pause)
		if c, pause = t.reopen(pause); c == nil {
			return
		}
		began = time.Now()
		t.set(c, nil)
		t.log.Info("connected again")
	}
}

// reopen dials until it succeeds, or returns nil after Close. It rests before the first try, and
// returns for how long to rest before the next one, should what it has made not serve.
func (t *transport) reopen(pause time.Duration) (*connection, time.Duration) {
	for {
		if pause > 0 && !t.rest(pause) {
			return nil, 0
		}
		pause = min(max(2*pause, backoffFirst), backoffMost)
		c, err := t.open(t.ctx)
		if err == nil && t.check != nil {
			if err = t.check(t.ctx, c); err != nil {
				c.close()
			}
		}
		if err == nil {
			return c, pause
		}
		if t.ctx.Err() != nil {
			return nil, 0
		}
		t.set(nil, err)
		t.log.Warn("cannot connect to the node", "error", err, "again_in", pause)
	}
}

// rest waits until it is time to dial again, which is sooner when somebody waits for
// the connection; false after Close.
func (t *transport) rest(pause time.Duration) bool {
	// Jitter keeps many mounts from coming back in the same moment.
	jitter := func(d time.Duration) time.Duration { return d/2 + rand.N(d) }
	awaited := backoffAwaited
	if t.timeout > 0 {
		awaited = max(min(awaited, t.timeout/4), backoffFirst)
	}
	since, long, short := time.Now(), jitter(pause), jitter(min(pause, awaited))
	for {
		t.mu.Lock()
		left := long
		if t.waiting > 0 || time.Since(t.gaveUp) < backoffAwaited+againTime {
			left = short
		}
		t.mu.Unlock()
		timer := time.NewTimer(left - time.Since(since))
		select {
		case <-timer.C:
			return true
		case <-t.wanted:
			timer.Stop()
		case <-t.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// want says that somebody waits for a connection from now on, until done is called.
func (t *transport) want() (done func()) {
	t.mu.Lock()
	t.waiting++
	t.mu.Unlock()
	select {
	case t.wanted <- struct{}{}:
	default:
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.waiting--
	}
}

func (t *transport) set(c *connection, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case c != nil:
		t.upAt = now
	case t.current != nil && (t.lostAt.IsZero() || now.Sub(t.upAt) >= servedTime):
		t.lostAt = now
	}
	t.current, t.lastErr = c, err
	close(t.changed)
	t.changed = make(chan struct{})
}

// overdue is the error of who has waited for the link since a moment, for as long as
// a request may wait; nil while there is a connection, or hope of one.
func (t *transport) overdue(since time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lostAt.After(since) {
		since = t.lostAt
	}
	if t.current != nil || t.timeout == 0 || time.Since(since) < t.timeout {
		return nil
	}
	return noConnection(t.lastErr)
}

// noConnection is the error of a request that has waited for a connection in
// vain. The cause is for people only: its errno is not that of the request.
func noConnection(cause error) error {
	return fmt.Errorf("%w: %w: %v", context.DeadlineExceeded, errNoConnection, cause)
}

var errNoConnection = errors.New("no connection to the node")

// state returns the connection if there is one, what is closed when that changes,
// and why there is none.
func (t *transport) state() (*connection, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current, t.changed, t.lastErr
}

// getForever waits for a connection until ctx ends. Nobody waits for what it is
// wanted for: it does not hurry the next try.
func (t *transport) getForever(ctx context.Context) (*connection, error) {
	return t.connected(ctx, nil)
}

// get waits for a connection, at most for the timeout, which counts from the loss of the link for who
// comes during an outage, and not anew for who tries again.
func (t *transport) get(ctx context.Context) (*connection, error) {
	c, _, cause := t.state()
	if c != nil && !c.isLost() {
		return c, nil
	}
	defer t.want()()
	if t.givenUp() {
		return nil, noConnection(cause)
	}
	limit, stop := t.timer()
	defer stop()
	c, err := t.connected(ctx, limit)
	if errors.Is(err, errNoConnection) {
		t.giveUp()
	}
	return c, err
}

// giveUp notes that a request has waited for the node in vain.
func (t *transport) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gaveUp = time.Now()
}

// givenUp tells whether a request of now belongs to a wait that was given up: then it ends at once,
// and so does what follows it.
func (t *transport) givenUp() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timeout == 0 || time.Since(t.gaveUp) > againTime {
		return false
	}
	t.gaveUp = time.Now()
	return true
}

// connected waits for a connection until limit.
func (t *transport) connected(ctx context.Context, limit <-chan time.Time) (*connection, error) {
	for {
		c, changed, lastErr := t.state()
		if c != nil && !c.isLost() {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.ctx.Done():
			return nil, errClosed
		case <-limit:
			return nil, noConnection(lastErr)
		}
	}
}

// timer runs for the timeout of a request; never, if that is zero.
func (t *transport) timer() (<-chan time.Time, func()) {
	if t.timeout == 0 {
		return nil, func() {}
	}
	timer := time.NewTimer(t.left())
	return timer.C, func() { timer.Stop() }
}

// left is how long a request that comes now may wait for a connection: up to the timeout after the
// link was lost, and after that for the timeout again, since it is the first one for a while.
func (t *transport) left() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if away := time.Since(t.lostAt); !t.lostAt.IsZero() && away < t.timeout {
		return t.timeout - away
	}
	return t.timeout
}

func (t *transport) close() {
	t.cancel()
	t.tasks.Wait()
}
