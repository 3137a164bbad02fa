package sftpwire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ErrClosed is the cause of requests that were under way when the session ended.
var ErrClosed = errors.New("sftp: session closed")

// Session is one SFTP session. Its methods may be called by many goroutines;
// requests are sent in the order of the calls.
type Session struct {
	ch         io.ReadWriteCloser
	extensions map[string]string
	base       *Base // nil: none

	mu      sync.Mutex // guards what follows
	changed *sync.Cond // on mu: queue or err has changed
	lastID  uint32
	pending map[uint32]request
	settled time.Time // when the request was sent that was answered and sent last
	queue   []byte    // packets to be written
	err     error     // why the session ended

	done  chan struct{}  // closed when err is set
	tasks sync.WaitGroup // the reader and the writer
}

// maxQueue is how much may wait to be written before those who send wait too.
const maxQueue = 1 << 20

// request is one that is not answered yet.
type request struct {
	reply chan reply // has room for the one reply
	sent  time.Time
	slow  bool // it takes as long as the server's disk: fsync
}

type reply struct {
	typ  byte
	body []byte // behind the id
	err  error
}

// New greets the server over ch, a started sftp subsystem, which the session
// owns from then on.
func New(ctx context.Context, ch io.ReadWriteCloser) (*Session, error) {
	stop := context.AfterFunc(ctx, func() { ch.Close() })
	defer stop()
	s := &Session{ch: ch, pending: map[uint32]request{}, done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	r := bufio.NewReaderSize(ch, 64<<10)
	err := s.greet(r)
	if err != nil {
		ch.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("sftp handshake: %w", err)
	}
	s.tasks.Go(func() { s.read(r) })
	s.tasks.Go(s.write)
	return s, nil
}

func (s *Session) greet(r io.Reader) error {
	hello := binary.BigEndian.AppendUint32(nil, 5)
	hello = append(hello, typeInit)
	hello = binary.BigEndian.AppendUint32(hello, 3)
	_, sendErr := s.ch.Write(hello)
	typ, body, err := readPacket(r)
	switch {
	case sendErr != nil && (err == nil || errors.Is(err, io.EOF)):
		return sendErr
	case err != nil: // what a server said before it ended tells more than that it had ended
		return err
	}
	if typ != typeVersion {
		return fmt.Errorf("packet type %d instead of the version", typ)
	}
	s.extensions, err = parseVersion(body)
	return err
}

// Extension returns the data with which the server announced an extension.
func (s *Session) Extension(name string) (data string, ok bool) {
	data, ok = s.extensions[name]
	return data, ok
}

// Done is closed when the session has ended, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session; requests under way fail with [ErrClosed].
func (s *Session) Close() error {
	err := s.end(io.EOF)
	s.tasks.Wait()
	return err
}

// readPacket reads one packet whose length is proven sane first.
func readPacket(r io.Reader) (typ byte, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxPacket {
		return 0, nil, fmt.Errorf("sftp: packet of %d bytes (at most %d are read)", n, maxPacket)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	return b[0], b[1:], nil
}

// end fails all that wait, and lets the reader and the writer end. They are told
// before the channel is closed, for which a link that is stuck has no room.
func (s *Session) end(cause error) error {
	s.mu.Lock()
	if s.err == nil {
		// Not wrapped: the end of the channel is not that of a file.
		s.err = fmt.Errorf("%w: %v", ErrClosed, cause)
		close(s.done)
	}
	for id, r := range s.pending {
		delete(s.pending, id)
		r.reply <- reply{err: s.err}
	}
	s.queue = nil
	s.changed.Broadcast()
	s.mu.Unlock()
	return s.ch.Close()
}

// read hands replies to those who wait for them until the session ends.
func (s *Session) read(r io.Reader) {
	for {
		if err := s.readOne(r); err != nil {
			_ = s.end(err)
			return
		}
	}
}

// write writes what is queued until the session ends. Under load many requests
// leave in one packet of SSH.
func (s *Session) write() {
	var buf []byte
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && s.err == nil {
			s.changed.Wait()
		}
		if s.err != nil {
			s.mu.Unlock()
			return
		}
		buf, s.queue = s.queue, buf[:0]
		s.changed.Broadcast() // there is room again
		s.mu.Unlock()
		if _, err := s.ch.Write(buf); err != nil {
			_ = s.end(err)
			return
		}
	}
}

func (s *Session) readOne(in io.Reader) error {
	typ, body, err := readPacket(in)
	if err != nil {
		return err
	}
	id, body, err := takeUint32(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.pending[id]
	if !ok {
		return fmt.Errorf("reply to request %d, which was not sent", id)
	}
	delete(s.pending, id)
	if r.sent.After(s.settled) {
		s.settled = r.sent
	}
	r.reply <- reply{typ: typ, body: body}
	return nil
}

// send queues a request whose fields behind the id are body and then data; the
// reply comes on the returned channel, which nobody needs to read. It waits while
// the server is slow to take what was queued before.
func (s *Session) send(typ byte, body, data []byte) <-chan reply {
	c := make(chan reply, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > maxQueue && s.err == nil {
		s.changed.Wait()
	}
	if s.err != nil {
		c <- reply{err: s.err}
		return c
	}
	s.lastID++
	for s.pending[s.lastID].reply != nil { // after 2³² requests
		s.lastID++
	}
	s.pending[s.lastID] = request{c, time.Now(), typ == typeExtended && bytes.HasPrefix(body, extFsync)}
	s.queue = binary.BigEndian.AppendUint32(s.queue, uint32(5+len(body)+len(data)))
	s.queue = append(s.queue, typ)
	s.queue = binary.BigEndian.AppendUint32(s.queue, s.lastID)
	s.queue = append(s.queue, body...)
	s.queue = append(s.queue, data...)
	s.changed.Broadcast()
	return c
}

// Oldest is when the oldest of the requests was sent that are not answered, zero if there
// are none, and whether it is one that may take as long as the server's disk.
func (s *Session) Oldest() (sent time.Time, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.pending {
		if sent.IsZero() || r.sent.Before(sent) {
			sent, slow = r.sent, r.slow
		}
	}
	return sent, slow
}

// Settled is when the request was sent that was sent last of those that are answered:
// what was sent before has arrived. It is zero when there was none.
func (s *Session) Settled() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled
}

var extFsync = appendString(nil, ExtFsync)

// wait waits for a reply or the end of ctx.
func wait(ctx context.Context, c <-chan reply) (reply, error) {
	select {
	case r := <-c:
		return r, r.err
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// status waits for a reply that must be a status.
func status(ctx context.Context, c <-chan reply) error {
	r, err := wait(ctx, c)
	if err != nil {
		return err
	}
	if r.typ != typeStatus {
		return fmt.Errorf("sftp: reply of type %d instead of a status", r.typ)
	}
	return parseStatus(r.body)
}
