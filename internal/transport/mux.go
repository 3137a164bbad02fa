package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The parts of SFTP that have to be understood to share a stream: the length and the type of a
// packet, and the number of a request (draft-ietf-secsh-filexfer-02, section 3).
const (
	typeInit    = 1
	typeVersion = 2
	version     = 3

	headSize   = 4 + 1 + 4 // length, type, request number
	mostPacket = 1 << 20   // bytes of a packet, without the length; OpenSSH sends 256 KiB at most
)

// errNotSFTP is the cause when what arrives is no SFTP.
var errNotSFTP = errors.New("what answers does not speak SFTP")

// mux carries the sessions of one stream.
type mux struct {
	stream   io.ReadWriteCloser
	greeting []byte        // the server's answer to INIT, whole
	done     chan struct{} // closed when the stream has ended

	sending sync.Mutex // held while a packet is written; taken before mu

	mu      sync.Mutex // guards what follows
	err     error      // why the stream has ended
	last    uint32     // number of the last request
	waiting map[uint32]asked
	users   map[*session]struct{}
}

// asked is who waits for an answer, and the number by which it knows the request.
type asked struct {
	by     *session
	number uint32
}

// newMux greets the server. It closes the stream when that fails, or when ctx ends meanwhile.
func newMux(ctx context.Context, stream io.ReadWriteCloser) (*mux, error) {
	m := &mux{stream: stream, done: make(chan struct{}), waiting: map[uint32]asked{}, users: map[*session]struct{}{}}
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	greeting, err := m.greet()
	if !stop() {
		err = context.Cause(ctx)
	} else if err != nil {
		err = because(stream, err)
	}
	if err != nil {
		stream.Close()
		return nil, fmt.Errorf("start sftp: %w", err)
	}
	m.greeting = greeting
	go m.read()
	return m, nil
}

// because is what a stream itself says about its end, in place of an EOF.
func because(stream io.ReadWriteCloser, err error) error {
	if w, ok := stream.(interface{ Why() error }); ok && !errors.Is(err, errNotSFTP) {
		if why := w.Why(); why != nil {
			return why
		}
	}
	if errors.Is(err, io.EOF) {
		return errors.New("it was closed by the other side")
	}
	return err
}

func (m *mux) greet() ([]byte, error) {
	hello := binary.BigEndian.AppendUint32(nil, 1+4)
	hello = binary.BigEndian.AppendUint32(append(hello, typeInit), version)
	_, sendErr := m.stream.Write(hello)
	if sendErr != nil { // it reads nothing, and may never print anything either
		timer := time.AfterFunc(endTime, func() { m.stream.Close() })
		defer timer.Stop()
	}
	p, err := readPacket(m.stream)
	switch {
	case sendErr != nil && (err == nil || !errors.Is(err, errNotSFTP)):
		return nil, sendErr
	case err != nil: // what a program printed before it ended tells more than that it has ended
		return nil, err
	}
	if p[4] != typeVersion {
		return nil, fmt.Errorf("%w: a packet of type %d came for a greeting", errNotSFTP, p[4])
	}
	return p, nil
}

// readPacket reads one packet, with its length.
func readPacket(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < headSize-4 || n > mostPacket {
		return nil, fmt.Errorf("%w: a packet of %d bytes came", errNotSFTP, n)
	}
	p := make([]byte, 4+n)
	copy(p, length[:])
	if _, err := io.ReadFull(r, p[4:]); err != nil {
		return nil, err
	}
	return p, nil
}

// read gives each answer to who has asked, until the stream ends.
func (m *mux) read() {
	var err error
	for err == nil {
		var p []byte
		if p, err = readPacket(m.stream); err == nil {
			err = m.deliver(p)
		}
	}
	m.end(err)
}

func (m *mux) deliver(p []byte) error {
	number := binary.BigEndian.Uint32(p[5:])
	m.mu.Lock()
	a, ok := m.waiting[number]
	delete(m.waiting, number)
	m.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: an answer came that nobody has asked for", errNotSFTP)
	}
	binary.BigEndian.PutUint32(p[5:], a.number)
	a.by.arrived(p)
	return nil
}

// end ends all sessions; the first cause counts.
func (m *mux) end(err error) {
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = err
	users := m.users
	m.users = nil
	m.mu.Unlock()
	if !errors.Is(err, errClosed) {
		err = because(m.stream, err)
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	}
	m.stream.Close()
	for s := range users {
		s.end()
	}
	close(m.done)
}

// why is the error that ended the stream; nil while it stands.
func (m *mux) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// open adds a session.
func (m *mux) open() (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	s := &session{mux: m}
	s.changed.L = &s.mu
	m.users[s] = struct{}{}
	return s, nil
}

// sessions is how many there are.
func (m *mux) sessions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.users)
}

// send writes a request of s, whose packet it changes.
func (m *mux) send(s *session, p []byte) error {
	m.sending.Lock()
	defer m.sending.Unlock()
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return m.err
	}
	for {
		m.last++
		if _, taken := m.waiting[m.last]; !taken {
			break
		}
	}
	m.waiting[m.last] = asked{s, binary.BigEndian.Uint32(p[5:])}
	binary.BigEndian.PutUint32(p[5:], m.last)
	m.mu.Unlock()
	_, err := m.stream.Write(p)
	return err
}

// session is one SFTP session over a shared stream.
type session struct {
	mux *mux

	writing sync.Mutex // guards partial
	partial []byte     // the beginning of a packet that was not written whole

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	queue   [][]byte // answers that were not read yet: never more than were asked for
	closed  bool
}

// Write takes requests, in pieces of any size.
func (s *session) Write(data []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.partial = append(s.partial, data...)
	rest := s.partial
	for len(rest) >= 5 {
		n := int(binary.BigEndian.Uint32(rest)) + 4
		if n < headSize || n > mostPacket {
			return 0, fmt.Errorf("a request of %d bytes", n)
		}
		if len(rest) < n {
			break
		}
		p := rest[:n]
		rest = rest[n:]
		if p[4] == typeInit {
			s.arrived(append([]byte(nil), s.mux.greeting...))
		} else if err := s.mux.send(s, p); err != nil {
			return 0, err
		}
	}
	if len(rest) == 0 {
		s.partial = s.partial[:0]
	} else {
		s.partial = append(s.partial[:0], rest...)
	}
	return len(data), nil
}

// Read gives the answers, and io.EOF when the session or the stream has ended.
func (s *session) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 {
		if s.closed {
			return 0, io.EOF
		}
		s.changed.Wait()
	}
	n := copy(p, s.queue[0])
	if s.queue[0] = s.queue[0][n:]; len(s.queue[0]) == 0 {
		s.queue = s.queue[1:]
	}
	return n, nil
}

func (s *session) arrived(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.queue = append(s.queue, p)
	s.changed.Signal()
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
}

// Close ends the session and leaves the stream. Answers that are still to come are dropped.
func (s *session) Close() error {
	s.end()
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	delete(s.mux.users, s)
	return nil
}
