package sftpwire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrClosed is the cause of requests that were under way when the session ended.
var ErrClosed = errors.New("sftp: session closed")

// Session is one SFTP session. Its methods may be called by many goroutines;
// requests are sent in the order of the calls.
type Session struct {
	ch         io.ReadWriteCloser
	extensions map[string]string

	writing sync.Mutex // held while a packet is written

	mu      sync.Mutex // guards what follows
	lastID  uint32
	pending map[uint32]chan reply
	err     error // why the session ended

	done chan struct{} // closed when the reader has ended
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
	s := &Session{ch: ch, pending: map[uint32]chan reply{}, done: make(chan struct{})}
	r := bufio.NewReaderSize(ch, 64<<10)
	err := s.greet(r)
	if err != nil {
		ch.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("sftp handshake: %w", err)
	}
	go s.read(r)
	return s, nil
}

func (s *Session) greet(r io.Reader) error {
	hello := binary.BigEndian.AppendUint32(nil, 5)
	hello = append(hello, typeInit)
	hello = binary.BigEndian.AppendUint32(hello, 3)
	if _, err := s.ch.Write(hello); err != nil {
		return err
	}
	typ, body, err := readPacket(r)
	if err != nil {
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

// Close ends the session; requests under way fail with [ErrClosed].
func (s *Session) Close() error {
	err := s.ch.Close()
	<-s.done
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

// read hands replies to those who wait for them until the session ends.
func (s *Session) read(r io.Reader) {
	defer close(s.done)
	for {
		err := s.readOne(r)
		if err == nil {
			continue
		}
		s.ch.Close()
		s.mu.Lock()
		s.err = fmt.Errorf("%w: %w", ErrClosed, err)
		for id, c := range s.pending {
			delete(s.pending, id)
			c <- reply{err: s.err}
		}
		s.mu.Unlock()
		return
	}
}

func (s *Session) readOne(r io.Reader) error {
	typ, body, err := readPacket(r)
	if err != nil {
		return err
	}
	id, body, err := takeUint32(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.pending[id]
	if !ok {
		return fmt.Errorf("reply to request %d, which was not sent", id)
	}
	delete(s.pending, id)
	c <- reply{typ: typ, body: body} // has room for the one reply
	return nil
}

// send sends a request whose fields behind the id are body; the reply comes on
// the returned channel, which nobody needs to read.
func (s *Session) send(typ byte, body []byte) <-chan reply {
	c := make(chan reply, 1)
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		c <- reply{err: s.err}
		return c
	}
	s.lastID++
	for s.pending[s.lastID] != nil { // after 2³² requests
		s.lastID++
	}
	id := s.lastID
	s.pending[id] = c
	s.mu.Unlock()

	p := make([]byte, 0, 9+len(body))
	p = binary.BigEndian.AppendUint32(p, uint32(5+len(body)))
	p = append(p, typ)
	p = binary.BigEndian.AppendUint32(p, id)
	p = append(p, body...)
	if _, err := s.ch.Write(p); err != nil {
		s.ch.Close() // a packet cut short: the reader ends, and all who wait are told
	}
	return c
}

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
