package mountprog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/control"
	"bundlefs/internal/lease"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/remote"
)

// signalBarrier is how long the end by a signal waits for the node; what is not there by then
// stays in the spool.
const signalBarrier = 30 * time.Second

// serving is a mount that this process serves.
type serving struct {
	cfg      *mountConfig
	log      *logger
	say      *messages
	ctl      *control.Server
	cover    *mountpoint.Cover // nil when the folder underneath could not be noted
	server   atomic.Pointer[fs.Server]
	serves   chan struct{} // closed when server is set
	finished chan struct{} // closed when nothing is left of the mount but the control socket
}

// serve mounts, and returns when the mount has ended. ready is the pipe to the parent, nil in
// the foreground.
func serve(ctx context.Context, m *mountConfig, ready *os.File, say *messages) (err error) {
	mounted := false
	defer func() {
		if !mounted {
			err = m.advised(err)
		}
	}()
	if err := m.become(); err != nil {
		return err
	}
	if err := m.readIDMaps(); err != nil {
		return err
	}
	log, err := newLogger(m, say.w)
	if err != nil {
		return err
	}
	defer log.close()
	signals := notify()
	if ready == nil {
		defer signal.Stop(signals)
	} // else the process ends with the mount, and a second signal, which the parent passes on, must not kill it before it has said how
	ahead, err := m.awaitToken(ctx, signals, log)
	if err != nil {
		return err
	}
	defer ahead.drop()
	if m.mountpoint, err = control.Canonical(m.mountpoint); errors.Is(err, os.ErrNotExist) {
		return fail("create it with mkdir -p", "%w", err)
	} else if err != nil {
		return fail("choose a folder that you can reach", "%w", err)
	}

	s := &serving{cfg: m, log: log, say: say, serves: make(chan struct{}), finished: make(chan struct{})}
	// Taken first: of two bundlefs for one folder, the second stops here.
	if s.ctl, err = control.Listen(m.mountpoint, s); errors.Is(err, control.ErrMounted) {
		return taken(ctx, m.mountpoint, err)
	} else if err != nil {
		return fail("set XDG_RUNTIME_DIR to a folder of yours that nobody else can enter", "%w", err)
	}
	defer s.ctl.Close()
	if !m.nomount {
		if err := thisSystem().check(m, say); err != nil {
			return err
		}
	}
	if err := s.mount(ctx, signals, ahead); err != nil {
		return err
	}
	if ready != nil {
		if err := detach(ready, log); err != nil {
			return errors.Join(err, s.leaveTree())
		}
	}
	mounted = true
	return s.run(ctx, signals)
}

// takenTime is how long the other process is waited for.
const takenTime = 5 * time.Second

// taken is the error where another process has the control socket of a mount point.
func taken(ctx context.Context, mountpoint string, err error) error {
	at := remote.Quote(mountpoint)
	ctx, cancel := context.WithTimeout(ctx, takenTime)
	defer cancel()
	if c, err := control.Dial(ctx, mountpoint); err == nil {
		defer c.Close()
		var r report
		if err := c.Call(ctx, "status", map[string]bool{"ping": false}, &r, nil); err == nil && r.Unmounted {
			return fail(fmt.Sprintf("wait until it ends, within %v: what it cannot send is kept, if the mount was exclusive, and sent by the next mount; bundlefs status %s tells how far it is", signalBarrier, at),
				"%s: the former mount was unmounted, and its process %d is still sending %s to the node", mountpoint, r.PID, amount(r.Pending))
		}
	}
	return fail("bundlefs status "+at+" tells about it, bundlefs unmount "+at+" ends it", "%w by bundlefs", err)
}

// mount connects, mounts, and closes the folder underneath. A signal ends it.
func (s *serving) mount(ctx context.Context, signals <-chan os.Signal, ahead *ahead) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mounted, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-signals:
			cancel()
		case <-mounted:
		}
	}()
	terminal := keepTerminal()
	defer terminal.close()

	var err error
	if s.cfg.nomount {
		s.cover = nil
	} else if s.cover, err = mountpoint.NewCover(s.cfg.mountpoint); err != nil {
		s.log.Warn("the folder under the mount stays writable", "error", err)
	}
	prompts := &memory{terminal: remote.UserPrompter()}
	if s.cfg.passwordStdin {
		if prompts.terminal, err = passwordFrom(os.Stdin); err != nil {
			return errors.Join(err, s.uncover())
		}
	}
	s.tell()
	server, err := mountFS(ctx, s.cfg, prompts, ahead, s.log)
	close(mounted)
	<-watched
	if ctx.Err() != nil {
		terminal.restore()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errInterrupted // whatever that made of what was going on
		}
		return errors.Join(err, s.uncover())
	}
	if !s.cfg.foreground || !s.cfg.fs.DelayConnect { // in the foreground, the terminal stays
		prompts.leave()
	}
	s.server.Store(server)
	close(s.serves)
	if s.cover != nil {
		if err := s.cover.Protect(); err != nil {
			s.log.Warn("the folder under the mount stays writable", "error", err)
		}
	}
	if ctx.Err() != nil {
		return errors.Join(errInterrupted, s.leaveTree())
	}
	return nil
}

// readyTime is how long it may take from when a mount is seen until it is served.
const readyTime = 10 * time.Second

// ready is the server, nil when nothing is mounted yet. Who sees the mount already need not know
// that a little is left to be done.
func (s *serving) ready(ctx context.Context) *fs.Server {
	if server := s.server.Load(); server != nil {
		return server
	}
	if m, err := mountpoint.Find(s.cfg.mountpoint); err != nil || m == nil || !strings.HasPrefix(m.Type, "fuse") {
		return nil
	}
	limit := time.NewTimer(readyTime)
	defer limit.Stop()
	select {
	case <-s.serves:
	case <-limit.C:
	case <-ctx.Done():
	}
	return s.server.Load()
}

// tell prints what of options and of the ssh_config files has no effect.
func (s *serving) tell() {
	for _, note := range s.cfg.notes {
		s.say.note("%s", note)
	}
	if s.cfg.otherWay() {
		return
	}
	notes := remote.Notes(s.cfg.target)
	for _, note := range notes {
		s.say.note("%s", note)
	}
	if len(notes) > 0 {
		s.say.note("hint: -o ssh_command=ssh has the OpenSSH client connect, which obeys all of ssh_config")
	}
}

// uncover opens the folder underneath again, unless the mount is one of conc's: then that is conc's
// to do, when the bundle is closed. Until then an editor that saves once more gets an error.
func (s *serving) uncover() error {
	switch {
	case s.cover == nil:
		return nil
	case os.Getenv(lease.SpoolsVariable) != "":
		return s.cover.Leave()
	}
	return s.cover.Restore()
}

// leaveTree takes the mount out of the tree, whoever uses it, and forgets the mount point.
func (s *serving) leaveTree() error {
	if s.cfg.nomount {
		return s.ctl.Close()
	}
	err := mountpoint.Unmount(s.cfg.mountpoint, true)
	return errors.Join(err, s.uncover(), s.ctl.Close())
}

// run serves until the mount has ended, by a signal, by a request, or from outside.
func (s *serving) run(ctx context.Context, signals <-chan os.Signal) error {
	server := s.server.Load()
	go boundHeap(server)
	boundProcessors()
	barrier, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	stopped := make(chan error, 1) // the result of stop
	stop := func() {
		ctx, cancel := context.WithTimeout(barrier, signalBarrier)
		defer cancel()
		stopped <- s.stop(ctx, server)
	}
	stopping := false
	begin := func() {
		if !stopping {
			stopping = true
			go stop()
		}
	}
	signalled := 0
	done, ended := ctx.Done(), s.cfg.ended
	for {
		select {
		case <-done:
			done = nil
			begin()
		case <-ended: // there is no way back to the server
			ended = nil
			begin()
		case <-signals:
			if signalled++; signalled > 1 {
				giveUp()
				err := s.leaveTree()
				return errors.Join(errors.New("left at the second signal, perhaps before everything was on the node"), ignoreGone(err))
			}
			begin()
		case err := <-stopped:
			if err != nil {
				s.log.Error("ending the mount", "error", err)
			}
		case <-server.Done():
			err := s.finish(barrier, server)
			s.cfg.lender.await(signals, stopping, lentTime)
			return err
		}
	}
}

// stop is the end by a signal: barrier, unmount, and out of the tree if it is in use.
func (s *serving) stop(ctx context.Context, server *fs.Server) error {
	if err := server.Settle(ctx, nil); err != nil {
		s.log.Error("barrier before unmounting", "error", err)
	}
	err := server.Unmount()
	if err == nil || ended(server) {
		return nil
	}
	var detached *fs.DetachedError
	if !errors.Is(err, syscall.EBUSY) && !errors.As(err, &detached) {
		s.log.Error("unmounting", "error", err)
	}
	if err := ignoreGone(s.leaveTree()); err != nil && !ended(server) {
		return err
	}
	s.log.Warn("the mount was in use: it is out of the tree, and is served until the last user closes it", "mountpoint", s.cfg.mountpoint)
	return nil
}

func ended(server *fs.Server) bool {
	select {
	case <-server.Done():
		return true
	default:
		return false
	}
}

// finish cleans up when nothing is mounted any more. What was acknowledged and is not yet on
// the node, after an unmount from outside, goes there first; if the link does not let it, it
// stays in the spool for the next mount.
func (s *serving) finish(ctx context.Context, server *fs.Server) error {
	err := s.uncover()
	ctx, cancel := context.WithTimeout(ctx, signalBarrier)
	defer cancel()
	if serr := server.Settle(ctx, nil); serr != nil {
		err = errors.Join(err, fmt.Errorf("barrier after unmounting: %w", serr))
	}
	err = errors.Join(err, server.Close())
	close(s.finished)
	err = errors.Join(err, s.ctl.Close())
	if err != nil {
		s.log.Error("after unmounting", "error", err)
	}
	return err
}

// ignoreGone drops the errors of unmounting what is not mounted any more.
func ignoreGone(err error) error {
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}
