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

	"github.com/pkg/sftp"

	"bundlefs/internal/sftpwire"
)

// Conn is an SSH connection: sessions of a subsystem are opened over it.
// *remote.Client is one.
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

	backoffFirst = 250 * time.Millisecond
	backoffMost  = 30 * time.Second

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
	clients int           // sessions of pkg/sftp
	senders int           // sessions of the codec; 0: 1
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
}

// connection is one SSH connection with its sessions.
type connection struct {
	conn     Conn
	sessions []*session
	wire     *sftpwire.Session
	senders  []*sender // sessions for sending
	data     int       // bytes of data in one request
	lost     chan struct{}
	lose     sync.Once
	heard    atomic.Int64 // when the node last gave a sign of life, in nanoseconds since born
	born     time.Time
}

// session is one SFTP session.
type session struct {
	*sftp.Client
	conn     *connection
	inflight atomic.Int64
}

// sender is one session of the codec that sends changes.
type sender struct {
	*sftpwire.Session
	inflight atomic.Int64
}

// connect makes the first connection; its failure is the caller's.
func connect(ctx context.Context, o transportOptions) (*transport, error) {
	t := &transport{transportOptions: o, changed: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	c, err := t.open(ctx)
	if err != nil {
		t.cancel()
		return nil, err
	}
	t.current = c
	t.tasks.Go(t.keep)
	return t, nil
}

// open dials once and opens the sessions.
func (t *transport) open(ctx context.Context) (*connection, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{conn: conn, data: basePacket, lost: make(chan struct{}), born: time.Now()}
	// A handshake on a link that is stuck ends with the connection only.
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	stop := context.AfterFunc(opening, func() { conn.Close() })
	err = c.openSessions(opening, t.clients, t.senders)
	if !stop() {
		err = context.Cause(opening)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	for _, s := range c.sessions {
		t.tasks.Go(func() { s.Wait(); c.fail() })
	}
	for _, s := range c.senders {
		t.tasks.Go(func() { <-s.Done(); c.fail() })
	}
	return c, nil
}

// openSessions opens the codec's session, which tells how large packets may be,
// and then the others side by side.
func (c *connection) openSessions(ctx context.Context, clients, senders int) error {
	first, err := c.openSender(ctx)
	if err != nil {
		return fmt.Errorf("open sftp session: %w", err)
	}
	c.wire, c.senders = first.Session, []*sender{first}
	limits, err := c.wire.Limits(ctx)
	if err != nil {
		return fmt.Errorf("ask for the limits of sftp: %w", err)
	}
	if n := min(limits.Read, limits.Write); n > basePacket {
		c.data = int(min(n, maxData))
	}
	type opened struct {
		client *sftp.Client
		sender *sender
		err    error
	}
	more := max(senders-1, 0)
	results := make(chan opened, clients+more)
	for range clients {
		go func() {
			client, err := c.openClient(ctx)
			results <- opened{client: client, err: err}
		}()
	}
	for range more {
		go func() {
			s, err := c.openSender(ctx)
			results <- opened{sender: s, err: err}
		}()
	}
	// A server may allow fewer sessions (MaxSessions of sshd): one of each is enough.
	var failed error
	for range clients + more {
		switch r := <-results; {
		case r.err != nil:
			failed = r.err
		case r.sender != nil:
			c.senders = append(c.senders, r.sender)
		default:
			c.sessions = append(c.sessions, &session{Client: r.client, conn: c})
		}
	}
	if len(c.sessions) == 0 {
		return fmt.Errorf("open sftp session: %w", failed)
	}
	return nil
}

func (c *connection) openSender(ctx context.Context) (*sender, error) {
	ch, err := c.channel(ctx)
	if err != nil {
		return nil, err
	}
	s, err := sftpwire.New(ctx, ch)
	if err != nil {
		return nil, err
	}
	return &sender{Session: s}, nil
}

func (c *connection) openClient(ctx context.Context) (*sftp.Client, error) {
	ch, err := c.channel(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { ch.Close() })
	defer stop()
	client, err := sftp.NewClientPipe(ch, ch, sftp.MaxPacketUnchecked(c.data), sftp.MaxConcurrentRequestsPerFile(128))
	if err != nil {
		ch.Close()
		return nil, err
	}
	return client, nil
}

// channel opens a session and notes the signs of life that come on it.
func (c *connection) channel(ctx context.Context) (io.ReadWriteCloser, error) {
	ch, err := c.conn.OpenSubsystem(ctx, "sftp")
	if err != nil {
		return nil, err
	}
	return &channel{ch, c}, nil
}

// channel is a session's stream of bytes.
type channel struct {
	io.ReadWriteCloser
	conn *connection
}

func (ch *channel) Read(p []byte) (int, error) {
	n, err := ch.ReadWriteCloser.Read(p)
	if n > 0 {
		ch.conn.alive()
	}
	return n, err
}

// Write never fails with the io.EOF that a closed SSH channel gives: a read that
// could not be sent would be taken for the end of the file.
func (ch *channel) Write(p []byte) (int, error) {
	start := time.Now()
	n, err := ch.ReadWriteCloser.Write(p)
	if err != nil {
		return n, fmt.Errorf("%w: %v", errLost, err)
	}
	// What did not have to wait has only gone into a buffer here.
	if time.Since(start) > stalled {
		ch.conn.alive()
	}
	return n, nil
}

func (c *connection) alive() { c.heard.Store(int64(time.Since(c.born))) }

// silence is how long the node has given no sign of life on any session.
func (c *connection) silence() time.Duration {
	return time.Since(c.born) - time.Duration(c.heard.Load())
}

// fail marks the connection as lost: all its sessions end.
func (c *connection) fail() { c.lose.Do(func() { close(c.lost) }) }

func (c *connection) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// close ends the connection before its sessions: they say goodbye, for which a
// link that is stuck has no room.
func (c *connection) close() {
	c.fail()
	c.conn.Close()
	for _, s := range c.senders {
		s.Close()
	}
	for _, s := range c.sessions {
		s.Client.Close()
	}
}

// pick returns the session with the fewest requests under way.
func (c *connection) pick() *session {
	best := c.sessions[0]
	for _, s := range c.sessions[1:] {
		if s.inflight.Load() < best.inflight.Load() {
			best = s
		}
	}
	return best
}

// pickSender returns the sender with the fewest requests under way.
func (c *connection) pickSender() *sender {
	best := c.senders[0]
	for _, s := range c.senders[1:] {
		if s.inflight.Load() < best.inflight.Load() {
			best = s
		}
	}
	return best
}

// keep waits for the loss of each connection and makes the next.
func (t *transport) keep() {
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
		t.log.Warn("connecting again", "error", err)
		if c = t.reopen(); c == nil {
			return
		}
		t.set(c, nil)
		t.log.Info("connected again")
	}
}

// why tells why the connection was lost, as far as it is known.
func (c *connection) why() error {
	if e, ok := c.conn.(interface{ Err() error }); ok {
		if err := e.Err(); err != nil {
			return err
		}
	}
	return errLost
}

// reopen dials until it succeeds, or returns nil after Close.
func (t *transport) reopen() *connection {
	pause := backoffFirst
	for {
		c, err := t.open(t.ctx)
		if err == nil && t.check != nil {
			if err = t.check(t.ctx, c); err != nil {
				c.close()
			}
		}
		if err == nil {
			return c
		}
		if t.ctx.Err() != nil {
			return nil
		}
		t.set(nil, err)
		t.log.Warn("cannot connect to the node", "error", err, "again_in", pause)
		// Jitter keeps many mounts from coming back in the same moment.
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-t.ctx.Done():
			return nil
		}
		pause = min(2*pause, backoffMost)
	}
}

func (t *transport) set(c *connection, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.lastErr = c, err
	close(t.changed)
	t.changed = make(chan struct{})
}

// state returns the connection if there is one, and why there is none.
func (t *transport) state() (*connection, error, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current, t.lastErr, t.changed
}

// getForever waits for a connection until ctx ends.
func (t *transport) getForever(ctx context.Context) (*connection, error) {
	for {
		c, err := t.get(ctx)
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			return c, err
		}
	}
}

// get waits for a connection, at most for the timeout.
func (t *transport) get(ctx context.Context) (*connection, error) {
	var limit <-chan time.Time
	for {
		c, lastErr, changed := t.state()
		if c != nil && !c.isLost() {
			return c, nil
		}
		if limit == nil {
			timer, stop := t.timer()
			defer stop()
			limit = timer
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.ctx.Done():
			return nil, errClosed
		case <-limit:
			// The cause is for the log only: its errno is not that of the request.
			return nil, fmt.Errorf("%w: no connection to the node: %v", context.DeadlineExceeded, lastErr)
		}
	}
}

// timer runs for the timeout of a request; never, if that is zero.
func (t *transport) timer() (<-chan time.Time, func()) {
	if t.timeout == 0 {
		return nil, func() {}
	}
	timer := time.NewTimer(t.timeout)
	return timer.C, func() { timer.Stop() }
}

func (t *transport) close() {
	t.cancel()
	t.tasks.Wait()
}

// on runs one request on session s, which blocks until the node has answered
// (pkg/sftp knows no contexts), in such a way that the caller can leave: some time
// after ctx has ended, or when the link has been silent for the timeout. A link
// that is slow but moves is waited for. late, if not nil, is given what comes back
// when nobody waits any more.
func on[T any](ctx context.Context, t *transport, s *session, request func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	answer := make(chan result, 1)
	s.inflight.Add(1)
	go func() {
		v, err := request()
		s.inflight.Add(-1)
		answer <- result{v, err}
	}()
	var limit <-chan time.Time
	var timer *time.Timer
	if t.timeout > 0 {
		timer = time.NewTimer(t.timeout)
		defer timer.Stop()
		limit = timer.C
	}
	var grace <-chan time.Time
	interrupted := ctx.Done()
	var err error
	for err == nil {
		select {
		case r := <-answer:
			return r.value, r.err
		case <-limit:
			if left := t.timeout - s.conn.silence(); left > 0 {
				timer.Reset(left)
			} else {
				err = fmt.Errorf("%w: no answer from the node", context.DeadlineExceeded)
			}
		case <-interrupted:
			interrupted = nil
			wait := time.NewTimer(interruptGrace)
			defer wait.Stop()
			grace = wait.C
		case <-grace:
			err = ctx.Err()
		}
	}
	if late != nil {
		go func() {
			if r := <-answer; r.err == nil {
				late(r.value)
			}
		}()
	}
	var zero T
	return zero, err
}

// ask runs a request that may be repeated when the connection is lost under it.
func ask[T any](ctx context.Context, t *transport, request func(s *session) (T, error)) (T, error) {
	start := time.Now()
	for {
		v, err := once(ctx, t, request, nil)
		if err == nil || !isLost(err) || t.ctx.Err() != nil {
			return v, err
		}
		if t.timeout > 0 && time.Since(start) > t.timeout {
			return v, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// once runs a request on any session, one time.
func once[T any](ctx context.Context, t *transport, request func(s *session) (T, error), late func(T)) (T, error) {
	c, err := t.get(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	s := c.pick()
	v, err := on(ctx, t, s, func() (T, error) { return request(s) }, late)
	if isLost(err) {
		c.fail()
	}
	return v, err
}
