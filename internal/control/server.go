package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Server answers on the control socket of one mount until Close.
type Server struct {
	path    string
	lock    *os.File // flock held while we live: proves to others that we do
	ln      *net.UnixListener
	handler Handler
	owner   uint32 // the uid that may ask, besides root
	ctx     context.Context
	cancel  context.CancelFunc
	slots   chan struct{} // one for each connection
	wg      sync.WaitGroup
	once    sync.Once
	err     error // of Close, written by once
}

// Listen takes the control socket of a mount on mountpoint and starts answering with h.
// What a dead process left is replaced; where a live one answers, the error is ErrMounted.
func Listen(mountpoint string, h Handler) (*Server, error) {
	return listenAs(mountpoint, h, uint32(os.Getuid()))
}

func listenAs(mountpoint string, h Handler, owner uint32) (*Server, error) {
	canonical, err := Canonical(mountpoint)
	if err != nil {
		return nil, err
	}
	path, err := SocketPath(canonical)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(strings.TrimSuffix(path, ".sock") + ".lock")
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s: %w", canonical, ErrMounted)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket of %s: %w", canonical, err)
	}
	ln, err := bind(path)
	if err != nil {
		dropLock(lock)
		return nil, fmt.Errorf("control socket of %s: %w", canonical, err)
	}
	s := &Server{path: path, lock: lock, ln: ln, handler: h, owner: owner, slots: make(chan struct{}, maxClients)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// bind makes the socket, mode 0600. The caller holds the lock, so a socket that is there is
// a dead process's. Between bind and chmod the 0700 folder keeps others out.
func bind(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// takeLock opens and locks a file: EWOULDBLOCK when somebody has it who is not about to go.
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		// A process that was killed holds its files until the last of its threads is gone.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		for end := time.Now().Add(dyingTime); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
			<-time.After(dyingTime / 50)
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		if err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
		}
		// The former holder may have removed it between our open and our lock.
		mine, err1 := f.Stat()
		there, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}

// dyingTime is how long a process may take to be gone after it was killed.
const dyingTime = 500 * time.Millisecond

func dropLock(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}

// Path is where the socket is.
func (s *Server) Path() string { return s.path }

// Close stops accepting, cancels the requests that run, waits for their handlers, and
// removes the socket. A second call returns the same.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.err = s.ln.Close() // removes the socket too
		s.cancel()
		s.wg.Wait()
		s.err = errors.Join(s.err, dropLock(s.lock))
	})
	return s.err
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		conn, err := s.ln.AcceptUnix()
		if err != nil {
			<-s.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors or the like: let it pass instead of going deaf.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-s.ctx.Done():
				return
			}
			continue
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer func() { <-s.slots }()
			s.serve(conn)
		}()
	}
}

// peer is one client's connection.
type peer struct {
	conn *net.UnixConn
	mu   sync.Mutex // guards writing to conn
}

func (p *peer) send(r reply) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.conn.Write(append(line, '\n'))
	return err
}

func (p *peer) fail(err error) { p.send(reply{Error: wireError(err)}) }

func (s *Server) serve(conn *net.UnixConn) {
	p := &peer{conn: conn}
	taken := false
	defer func() {
		if !taken {
			conn.Close()
		}
	}()
	if err := s.admit(conn); err != nil {
		p.fail(err)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	// A client that does not read must not keep Close waiting in a write.
	stop := context.AfterFunc(s.ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)); conn.SetWriteDeadline(time.Now().Add(time.Second)) })
	defer stop()

	// Requests are read while one is handled, to notice a client that leaves.
	idle := make(chan struct{}, 1) // holds a token while no request runs
	idle <- struct{}{}
	var handlers sync.WaitGroup
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 0, 4096), maxRequest)
	for in.Scan() {
		line := bytes.TrimSpace(in.Bytes())
		if len(line) == 0 {
			continue
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			p.fail(fmt.Errorf("malformed control request: %w", err))
			break
		}
		select {
		case <-idle:
		default:
			p.fail(errors.New("a control request came before the answer to the last one"))
			cancel()
		}
		if ctx.Err() != nil {
			break
		}
		if r.Data == dataConn {
			if taken = s.give(p, r, stop); taken {
				break
			}
			idle <- struct{}{}
			continue
		}
		if r.Data != "" {
			if err := s.stream(ctx, p, r); err != nil {
				break
			}
			idle <- struct{}{}
			continue
		}
		handlers.Add(1)
		go func() {
			defer handlers.Done()
			last := s.answer(ctx, p, r)
			idle <- struct{}{}
			if err := p.send(last); err != nil {
				cancel()
			}
		}()
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		p.fail(fmt.Errorf("control request of more than %d bytes", maxRequest))
	}
	cancel()
	handlers.Wait()
}

// answer runs the handler and makes the last line of the reply.
func (s *Server) answer(ctx context.Context, p *peer, r request) reply {
	progress := func(v any) {
		if raw, err := json.Marshal(v); err == nil && ctx.Err() == nil {
			p.send(reply{Progress: raw})
		}
	}
	result, err := s.handler.Handle(ctx, r.Op, r.Args, progress)
	return s.last(r, result, err)
}

// last makes the last line of a reply of what a handler returned.
func (s *Server) last(r request, result any, err error) reply {
	if err != nil {
		return reply{Error: wireError(err)}
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return reply{Error: wireError(fmt.Errorf("control request %s: %w", r.Op, err))}
	}
	return reply{Result: raw}
}

// admit refuses everybody but our user and root (SO_PEERCRED, unix(7)).
func (s *Server) admit(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if credErr != nil {
		return fmt.Errorf("control socket: who asks: %w", credErr)
	}
	if cred.Uid != s.owner && cred.Uid != 0 {
		return fmt.Errorf("control socket: uid %d may not control a mount of uid %d: %w", cred.Uid, s.owner, syscall.EACCES)
	}
	return nil
}
