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

// session is one node for the time of one command: its bundle, and a
// connection that is made when it is first needed.
type session struct {
	app    *app
	file   *deploy.File
	node   *deploy.Node
	target remote.Target
	dir    string // the bundle on the node
	bundle *bundle.Bundle

	noted sync.Once // what is not obeyed of the ssh_config files was told

	mu     sync.Mutex // guards what follows
	client *remote.Client
	early  *early // a connection that is being made; nil when none is
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
		Connect: s.connect, StateDir: s.app.stateDir, CacheDir: s.app.cacheDir, Log: s.app.ui.logger(), Prompt: s.app.prompt,
		Progress: func(p bundle.Progress) { s.app.ui.progress(shown.Left(p.Files, p.Bytes)) },
	})
	return err
}

// connect gives the connection to the node, made anew after it was lost.
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

// ahead begins to connect for who will need the node soon, as far as that goes without asking
// anything.
func (s *session) ahead(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil || s.early != nil {
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

// unasked gives the connection, if it can be made without asking anything; else nil.
func (s *session) unasked(ctx context.Context) *remote.Client {
	s.ahead(ctx)
	s.mu.Lock()
	e, client := s.early, s.client
	s.mu.Unlock()
	if e == nil {
		return client
	}
	select {
	case <-e.done:
		return e.client
	case <-ctx.Done():
		return nil
	}
}

// standing waits for a connection that is being made, and forgets one that was lost; mu is held.
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
	if s.client != nil && s.client.Err() != nil {
		s.client.Close()
		s.client = nil
	}
	return nil
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.early; e != nil {
		e.cancel()
		<-e.done
		s.early, s.client = nil, e.client
	}
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// event is an entry of the journal about this node.
func (s *session) event(kind journal.Kind) journal.Event {
	return journal.Event{Kind: kind, Node: s.node.Name, Bundle: s.dir, Lock: journal.LockID(s.bundle.Token()), Deploy: s.file.Path()}
}
