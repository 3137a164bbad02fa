package main

import (
	"context"
	"sync"

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

	mu     sync.Mutex // guards client
	client *remote.Client
}

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
	if s.client != nil {
		select {
		case <-s.client.Done():
			s.client.Close()
			s.client = nil
		default:
			return s.client, nil
		}
	}
	s.noted.Do(func() {
		for _, note := range remote.Notes(s.target) {
			s.app.ui.warn(s.node.Name, "", "%s (sshd.config = no in deploy.ini leaves the ssh_config files out)", note)
		}
	})
	c, err := remote.Dial(ctx, s.target, remote.Options{Prompt: s.app.prompt, Log: s.app.ui.logger()})
	if err != nil {
		return nil, err
	}
	s.client = c
	return c, nil
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// event is an entry of the journal about this node.
func (s *session) event(kind journal.Kind) journal.Event {
	return journal.Event{Kind: kind, Node: s.node.Name, Bundle: s.dir, Lock: journal.LockID(s.bundle.Token()), Deploy: s.file.Path()}
}
