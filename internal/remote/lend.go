package remote

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// sessionsOfLoan is how many sessions on the node are held ready for each process that the
// connection is lent to: sshd limits them (MaxSessions), and the owner has some too.
const sessionsOfLoan = 2

// ErrNotLent is why a connection is not lent; the caller makes one of its own.
var ErrNotLent = errors.New("the connection is not lent")

// Shared is a connection that its owner lends to other processes of this machine, so that they
// need none of their own: they speak SSH to us ([Over]), and what they do in sessions is done in
// sessions on the node. Nothing but sessions is opened for them, and nothing is forwarded.
type Shared struct {
	*Client
	key   ssh.Signer // proves that it is us; of this connection only
	ahead bool       // sessions for processes are opened before the first one asks

	opening sync.Once
	opened  chan struct{} // closed when the owner has its sessions

	mu      sync.Mutex // guards what follows
	spares  []*nodeSession
	filling chan struct{} // closed when no more spares are being opened; nil: none are
	loans   int
	left    bool      // the owner does not need it any more
	running int       // sessions of processes
	quiet   time.Time // since when there are none
}

// Share makes a connection one that can be lent, and is closed instead of it. With ahead, sessions on
// the node are held ready from when the owner has its own, so that a process need not wait for them.
func Share(c *Client, ahead bool) (*Shared, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("share the connection: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("share the connection: %w", err)
	}
	return &Shared{Client: c, key: signer, ahead: ahead, opened: make(chan struct{}), quiet: time.Now()}, nil
}

// Opened says that the owner has the sessions that it needs. Those for the processes come after its
// own, since the node may not allow as many.
func (s *Shared) Opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening.Do(func() { close(s.opened) })
	if s.ahead {
		s.fill()
	}
}

// fill opens sessions to be held ready, as far as the node allows it; mu is held.
func (s *Shared) fill() {
	s.spares = slices.DeleteFunc(s.spares, (*nodeSession).hasEnded)
	if s.filling != nil || len(s.spares) >= sessionsOfLoan {
		return
	}
	done := make(chan struct{})
	s.filling = done
	var parts sync.WaitGroup
	for range sessionsOfLoan - len(s.spares) {
		parts.Go(func() {
			n, err := s.openSession()
			if err != nil {
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.spares = append(s.spares, n)
		})
	}
	go func() {
		parts.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.filling = nil
		close(done)
	}()
}

// Leave says that the owner does not need the connection any more. It is closed, unless processes
// use it: then it stands until the last of them has hung up, and Leave returns true. The owner's
// sessions are then for it to close.
func (s *Shared) Leave() bool {
	s.mu.Lock()
	s.left = true
	used := s.loans > 0 && s.Err() == nil
	s.mu.Unlock()
	if !used {
		_ = s.Close()
	}
	return used
}

// Quiet is for how long no process has had a session on the node.
func (s *Shared) Quiet() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running > 0 {
		return 0
	}
	return time.Since(s.quiet)
}

// Lend lends the connection to one more process, once the owner has its sessions and if the node lets
// the process have enough; else the error is ErrNotLent, with the reason.
func (s *Shared) Lend(ctx context.Context) (*Loan, error) {
	select {
	case <-s.opened:
	case <-s.Done():
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotLent, context.Cause(ctx))
	}
	s.mu.Lock()
	if s.left || s.Err() != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: it has ended", ErrNotLent)
	}
	s.loans++ // the owner may leave from now on
	l := &Loan{s: s, gone: make(chan struct{})}
	if s.reserve(l); len(l.reserved) > 0 {
		s.mu.Unlock()
		return l, nil
	}
	s.fill()
	filling := s.filling
	s.mu.Unlock()
	select {
	case <-filling:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.reserve(l)
	s.mu.Unlock()
	switch {
	case len(l.reserved) > 0:
		return l, nil
	case ctx.Err() != nil:
		l.end()
		return nil, fmt.Errorf("%w: %w", ErrNotLent, context.Cause(ctx))
	}
	l.end()
	return nil, fmt.Errorf("%w: the node allows no more sessions on it", ErrNotLent)
}

// reserve gives sessions that are held ready to a loan, if there are enough, and has others opened in
// their place; mu is held.
func (s *Shared) reserve(l *Loan) {
	s.spares = slices.DeleteFunc(s.spares, (*nodeSession).hasEnded)
	if len(s.spares) < sessionsOfLoan {
		return
	}
	l.reserved = slices.Clone(s.spares[:sessionsOfLoan])
	s.spares = slices.Clone(s.spares[sessionsOfLoan:])
	if s.ahead && !s.left {
		s.fill()
	}
}

// spare gives one of the sessions that are held ready for nobody yet; nil when there is none.
func (s *Shared) spare() *nodeSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.spares) > 0 {
		n := s.spares[0]
		if s.spares = s.spares[1:]; !n.hasEnded() {
			return n
		}
	}
	return nil
}

func (s *Shared) ran(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	s.quiet = time.Now()
}

// nodeSession is a session on the node for other processes.
type nodeSession struct {
	ch    ssh.Channel
	ended chan struct{}  // closed when the node has closed it
	how   []*ssh.Request // exit-status or exit-signal; valid when it has ended
}

func (s *Shared) openSession() (*nodeSession, error) {
	ch, requests, err := s.ssh.OpenChannel("session", nil)
	if err != nil {
		return nil, err
	}
	n := &nodeSession{ch: ch, ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		// Answered here, whatever the process does: sshd asks for signs of life on a session, too.
		for r := range requests {
			if (r.Type == "exit-status" || r.Type == "exit-signal") && len(n.how) == 0 {
				n.how = append(n.how, r)
			}
			_ = r.Reply(false, nil)
		}
	}()
	return n, nil
}

func (n *nodeSession) hasEnded() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// close closes it on the node, and does not wait for a link that is stuck.
func (n *nodeSession) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.ch.Close()
	}()
	timer := time.NewTimer(goodbyeTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
