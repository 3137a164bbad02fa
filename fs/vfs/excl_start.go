package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"bundlefs/internal/sftpwire"
)

// start looks at the node, proves the lease and takes up what the spool has. What is asked of the
// node is asked side by side, since nothing is sent before all of it is known.
func (x *Exclusive) start(ctx context.Context) error {
	way, err := x.enter()
	if err != nil {
		return err
	}
	err = x.startBy(ctx, way)
	if x.o.Name != nil && errors.Is(err, errNoRoot) {
		if way, err = x.anotherWay(ctx, way); err != nil {
			return err
		}
		err = x.startBy(ctx, way)
	}
	if errors.Is(err, errNoRoot) && x.o.Check != nil {
		return fmt.Errorf("%w: %w", ErrLeaseLost, err)
	}
	return err
}

// errNoRoot is that of startBy when the folder is not there, and nothing else was done.
var errNoRoot = errors.New("not on the node")

// startBy is start by one way into the folder.
func (x *Exclusive) startBy(ctx context.Context, way entered) error {
	// By the name that was given, since the absolute one is not known yet.
	root := orHome(way.root)
	home := ""
	homed := func() error { return nil }
	if x.o.Name != nil {
		homed = x.meanwhile(func() (err error) {
			home, err = ask(ctx, x.link, func(s *session) (string, error) { return s.RealPath(".").Wait(context.Background()) })
			return err
		})
	}
	proven := x.meanwhile(func() error { return x.checkLease(ctx, root) })
	var names []sftpwire.Name
	listed := x.meanwhile(func() (err error) {
		names, err = readDir(ctx, x.link, root, maxEntries)
		return err
	})
	login := func() (*sftpwire.Stat, error) { return nil, nil }
	if x.o.View.IDMap == "user" {
		var own *sftpwire.Stat
		asked := x.meanwhile(func() (err error) {
			own, err = x.o.View.askLogin(ctx, x.link, root)
			return err
		})
		login = func() (*sftpwire.Stat, error) { err := asked(); return own, err }
	}
	rootDir, st, err := findRoot(ctx, x.link, way.root)
	if errors.Is(err, os.ErrNotExist) {
		proven()
		listed()
		login()
		return fmt.Errorf("%w: %w", errNoRoot, err)
	}
	if err != nil {
		return err
	}
	if x.view, err = newView(x.o.View, x.o.UID, x.o.GID, x.o.Umask, login); errors.Is(err, os.ErrNotExist) {
		if lost := proven(); lost != nil { // the file that is missing is the owner record
			return lost
		}
	}
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.rootDir = rootDir
	x.mu.Unlock()
	if way.former { // which still goes by the old name
		proven()
		listed()
	}
	if err := homed(); err != nil {
		return err
	}
	if err := x.hold(ctx, way, home); err != nil {
		return err
	}
	x.makeRoot(x.view.listed(st))
	err = x.takeUp(ctx, proven, func() ([]sftpwire.Name, error) { err := listed(); return names, err })
	if lost := proven(); lost != nil {
		return lost
	}
	if err != nil {
		return err
	}
	x.tasks.Go(x.dispatch)
	x.tasks.Go(x.tick)
	x.tasks.Go(x.keepSynced)
	x.tasks.Go(func() { x.refreshSpace(x.ctx) })
	return nil
}

// meanwhile does something at the same time, and returns what waits for its result.
func (x *Exclusive) meanwhile(do func() error) func() error {
	var err error
	done := make(chan struct{})
	x.tasks.Go(func() {
		defer close(done)
		err = do()
	})
	return func() error { <-done; return err }
}

// takeUp makes the tree, of what the spool and the node tell.
func (x *Exclusive) takeUp(ctx context.Context, proven func() error, listed func() ([]sftpwire.Name, error)) error {
	if err := x.recover(); err != nil {
		return err
	}
	if len(x.doubts) > 0 {
		// Another owner's files tell nothing of what became of ours.
		if err := proven(); err != nil {
			return err
		}
		if err := x.clearDoubts(ctx); err != nil {
			return &Error{"recover", x.rootDir, err}
		}
	}
	if err := x.resumeAll(); err != nil {
		return err
	}
	if x.recovered > 0 { // and the node may have been changed by it since it was listed
		return x.load(ctx, x.root, maxEntries)
	}
	names, err := listed()
	if err != nil {
		return &Error{"readdir", x.rootDir, err}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.merge(x.root, names, x.sends)
	return nil
}
