package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	loanGreeting = 10 * time.Second // for the handshake with the process
	goodbyeTime  = time.Second      // for the last words to a process or the node, which may not listen
)

// lostRequest is the global request by which a process is told why the connection to the node has
// ended. Its data is the reason.
const lostRequest = "link-lost@bundlefs"

// passedOn are the requests of a session that go to the node (RFC 4254, 6). Neither agents nor
// windows are forwarded.
var passedOn = []string{"exec", "subsystem", "pty-req", "window-change", "signal", "env"}

// Loan is the use of a connection by one other process.
type Loan struct {
	s    *Shared
	gone chan struct{} // closed when the process has hung up

	mu       sync.Mutex // guards reserved
	reserved []*nodeSession
}

// Key is the public key by which the process knows us, in the form of RFC 4253, 6.6.
func (l *Loan) Key() []byte { return l.s.key.PublicKey().Marshal() }

// Serve speaks SSH with the process until one of the two connections ends, and closes conn and the
// process's sessions on the node. With nil for conn nothing comes of it. It is called once.
func (l *Loan) Serve(conn net.Conn) {
	defer l.end()
	if conn == nil {
		return
	}
	defer conn.Close()
	config := &ssh.ServerConfig{NoClientAuth: true, ServerVersion: "SSH-2.0-bundlefs"}
	config.AddHostKey(l.s.key)
	conn.SetDeadline(time.Now().Add(loanGreeting))
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		l.s.log.Debug("the process that the connection was lent to does not speak SSH", "error", err)
		return
	}
	conn.SetDeadline(time.Time{})
	go ssh.DiscardRequests(requests)
	go l.watch(server, conn)
	var sessions sync.WaitGroup
	for n := range channels {
		if n.ChannelType() != "session" {
			_ = n.Reject(ssh.UnknownChannelType, "only sessions are opened here")
			continue
		}
		sessions.Go(func() { l.session(n) })
	}
	close(l.gone)
	sessions.Wait()
}

// watch tells the process why the connection to the node has ended, and hangs up. A node that gives
// no sign of life at first, for the time in which a connection must be made, counts as lost for the
// process: it would not get one of its own.
func (l *Loan) watch(server *ssh.ServerConn, conn net.Conn) {
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _, _ = l.s.ssh.SendRequest("keepalive@openssh.com", true, nil)
	}()
	var late <-chan time.Time
	if l.s.s.timeout > 0 {
		tick := time.NewTicker(l.s.s.timeout)
		defer tick.Stop()
		late = tick.C
	}
	var why error
	heard := l.s.conn.received.Load()
	for why == nil {
		select {
		case <-l.gone:
			return
		case <-answered:
			answered, late = nil, nil
		case <-late:
			if now := l.s.conn.received.Load(); now != heard {
				heard = now // the answer may wait behind the owner's data
				continue
			}
			why = fmt.Errorf("no answer in %v", l.s.s.timeout)
		case <-l.s.Done():
			why = l.s.Err()
			var lost *LostError
			if errors.As(why, &lost) {
				why = lost.Err
			}
		}
	}
	conn.SetWriteDeadline(time.Now().Add(goodbyeTime))
	_, _, _ = server.SendRequest(lostRequest, false, []byte(why.Error()))
	_ = server.Close()
}

// end gives back what the process did not use, and has the next one find its sessions ready.
func (l *Loan) end() {
	s := l.s
	l.mu.Lock()
	unused := l.reserved
	l.reserved = nil
	l.mu.Unlock()
	s.mu.Lock()
	s.loans--
	unneeded := s.left && s.loans == 0
	for len(unused) > 0 && len(s.spares) < sessionsOfLoan {
		s.spares, unused = append(s.spares, unused[0]), unused[1:]
	}
	if s.ahead && !s.left && s.Err() == nil {
		s.fill()
	}
	s.mu.Unlock()
	if unneeded {
		_ = s.Close()
		return
	}
	for _, n := range unused {
		go n.ch.Close()
	}
}

// take gives a session on the node.
func (l *Loan) take() (*nodeSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.reserved) > 0 {
		n := l.reserved[0]
		l.reserved = l.reserved[1:]
		if !n.hasEnded() {
			return n, nil
		}
	}
	if n := l.s.spare(); n != nil {
		return n, nil
	}
	return l.s.openSession()
}

// session passes a session of the process on to one on the node.
func (l *Loan) session(asked ssh.NewChannel) {
	n, err := l.take()
	if err != nil {
		reason, text := ssh.ConnectionFailed, err.Error()
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			reason, text = refused.Reason, refused.Message
		}
		_ = asked.Reject(reason, text)
		return
	}
	l.s.ran(1)
	defer l.s.ran(-1)
	defer n.close()
	ch, requests, err := asked.Accept()
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(n.ch, ch)
		_ = n.ch.CloseWrite()
	}()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for r := range requests {
			ok := false
			if slices.Contains(passedOn, r.Type) {
				ok, _ = n.ch.SendRequest(r.Type, r.WantReply, r.Payload)
			}
			_ = r.Reply(ok, nil)
		}
	}()
	told := make(chan struct{})
	go func() {
		defer close(told)
		var streams sync.WaitGroup
		streams.Go(func() { _, _ = io.Copy(ch, n.ch) })
		streams.Go(func() { _, _ = io.Copy(ch.Stderr(), n.ch.Stderr()) })
		streams.Wait()
		_ = ch.CloseWrite()
		<-n.ended
		for _, r := range n.how {
			_, _ = ch.SendRequest(r.Type, false, r.Payload)
		}
		select {
		case <-closed:
		default:
			// Without a word of how it ended it may be the connection that has: watch tells.
			if len(n.how) == 0 && l.s.lost(io.EOF) != nil {
				return
			}
		}
		_ = ch.Close()
	}()
	select {
	case <-told:
	case <-closed:
	case <-l.gone:
	}
}
