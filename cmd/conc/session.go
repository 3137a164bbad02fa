package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/journal"
	"bundlefs/internal/progress"
	"bundlefs/internal/remote"
)

// session is one node for the time of one command: its bundle, and a connection. The connection is
// that of the mount program where the bundle is mounted, for it costs nothing; one of its own is made
// when it is first needed: where nothing is mounted, for what must not be seen by the mount program,
// and for who wants to know whether the node can be reached.
type session struct {
	app    *app
	file   *deploy.File
	node   *deploy.Node
	target remote.Target
	dir    string // the bundle on the node
	bundle *bundle.Bundle

	private bool // passwords go over the connection: it has to be one of our own

	noted sync.Once // what is not obeyed of the ssh_config files was told

	mu       sync.Mutex     // guards what follows
	client   *remote.Client // our own
	lent     *remote.Client // over the mount program's
	lentLost bool           // it is not tried again
	early    *early         // a connection that is being made; nil when none is
}

// early is a connection that is being made while other things are done.
type early struct {
	cancel context.CancelFunc
	done   chan struct{}  // closed when what follows is what it will be
	client *remote.Client // nil when it could not be made without asking anything
	err    error
	ended  time.Time
}

// fresh is how long it is believed that a node cannot be reached.
const fresh = 5 * time.Second

// newSession is of a node as deploy.ini has it.
func (a *app) newSession(f *deploy.File, n *deploy.Node) (*session, error) {
	if _, err := f.Node(n.Name); err != nil { // only its bundle is still there
		return nil, usagef(hintOf(err), "%w", err)
	}
	t, err := target(n)
	if err != nil {
		return nil, err
	}
	s := &session{app: a, file: f, node: n, target: t, dir: n.Bundle()}
	if err := s.configure(n.MountPoint(), ""); err != nil {
		return nil, err
	}
	return s, nil
}

// configure makes the handle of the bundle.
func (s *session) configure(mountpoint, message string) (err error) {
	shown := progress.Barrier{What: s.node.Name + ": unmount"}
	s.bundle, err = bundle.New(bundle.Config{
		Target: s.target, Node: s.node.Name, Dir: s.dir, MountPoint: mountpoint,
		Deploy: s.file.Path(), Message: message,
		Connect: s.connect, Ahead: s.unasked, StateDir: s.app.stateDir, SpoolsDir: s.app.spoolsDir, Log: s.app.ui.logger(), Prompt: s.app.prompt,
		Progress: func(p bundle.Progress) { s.app.ui.progress(shown.Left(p.Files, p.Bytes)) },
	})
	return err
}

// connect gives our own connection to the node, made anew after it was lost.
func (s *session) connect(ctx context.Context) (*remote.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted.Do(func() {
		for _, note := range remote.Notes(s.target) {
			s.app.ui.warn(s.node.Name, "", "%s (sshd.config = no in deploy.ini leaves the ssh_config files out)", note)
		}
	})
	if err := s.standing(ctx); err != nil || s.client != nil {
		return s.client, err
	}
	c, err := remote.Dial(ctx, s.target, remote.Options{Prompt: s.app.prompt, Log: s.app.ui.logger()})
	if err != nil {
		return nil, err
	}
	s.client = c
	return c, nil
}

// reach gives a connection to the node: that which there is, or over the mount program's, or our own.
func (s *session) reach(ctx context.Context) (*remote.Client, error) {
	s.mu.Lock()
	err := s.standing(ctx)
	if err == nil && s.client == nil && s.lent == nil {
		s.lent = s.borrow(ctx)
	}
	c := s.client
	if c == nil {
		c = s.lent
	}
	s.mu.Unlock()
	if err != nil || c != nil {
		return c, err
	}
	return s.connect(ctx)
}

// borrow gives a connection over the mount program's; nil when we have to dial. mu is held.
func (s *session) borrow(ctx context.Context) *remote.Client {
	if s.private || s.lentLost {
		return nil
	}
	c, err := s.bundle.Lent(ctx)
	if err != nil {
		s.app.ui.logger().Debug("no connection of the mount program's", "node", s.node.Name, "error", err)
		return nil
	}
	return c
}

// ahead takes the mount program's connection for who will need the node soon, or begins to connect, as
// far as that goes without asking anything.
func (s *session) ahead(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.early != nil {
		return
	}
	if s.forgetLost(); s.client != nil || s.lent != nil {
		return
	}
	// Not beside what comes next, which may be the unmounting.
	if s.lent = s.borrow(ctx); s.lent != nil {
		return
	}
	e := &early{done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	s.early = e
	go func() {
		defer close(e.done)
		e.client, e.err = remote.Dial(ctx, s.target, remote.Options{Log: s.app.ui.logger()})
		e.ended = time.Now()
	}()
}

// unasked gives a connection as reach does, if it can be made without asking anything; else nil.
func (s *session) unasked(ctx context.Context) *remote.Client {
	s.ahead(ctx)
	s.mu.Lock()
	e, client := s.early, s.client
	if client == nil {
		client = s.lent
	}
	s.mu.Unlock()
	if e == nil {
		return client
	}
	select {
	case <-e.done:
		if e.client != nil && e.client.Err() == nil {
			return e.client
		}
		return nil
	case <-ctx.Done():
		return nil
	}
}

// standing waits for a connection that is being made, and forgets those that were lost; mu is held.
// Its error is that a node cannot be reached which has just proved so.
func (s *session) standing(ctx context.Context) error {
	if e := s.early; e != nil {
		select {
		case <-e.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		e.cancel()
		s.early, s.client = nil, e.client
		var unreachable *remote.UnreachableError
		if errors.As(e.err, &unreachable) && time.Since(e.ended) < fresh {
			return e.err
		}
	}
	s.forgetLost()
	return nil
}

// forgetLost forgets connections that have ended; mu is held.
func (s *session) forgetLost() {
	if s.client != nil && s.client.Err() != nil {
		s.client.Close()
		s.client = nil
	}
	if s.lent != nil && s.lent.Err() != nil {
		s.lent.Close()
		s.lent, s.lentLost = nil, true
	}
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.early; e != nil {
		e.cancel()
		<-e.done
		s.early, s.client = nil, e.client
	}
	for _, c := range []*remote.Client{s.client, s.lent} {
		if c != nil {
			c.Close()
		}
	}
	s.client, s.lent = nil, nil
}

// event is an entry of the journal about this node.
func (s *session) event(kind journal.Kind) journal.Event {
	return journal.Event{Kind: kind, Node: s.node.Name, Bundle: s.dir, Lock: journal.LockID(s.bundle.Token()), Deploy: s.file.Path()}
}
