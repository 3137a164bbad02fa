package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/deploy"
	"bundlefs/internal/journal"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/node"
	"bundlefs/internal/proc"
	"bundlefs/internal/rmtree"
)

// stage is a throwaway node, with a throwaway place on the workstation for the
// bundle, its state and its mount. Nothing of it outlives its close.
type stage struct {
	session *session
	node    *node.Node
	dir     string
	mark    string // NAME=VALUE in the environment of all that is started here
	atOnce  *leaving
}

// markName is a variable by which what a rehearsal has started on the workstation is found.
const markName = "CONC_REHEARSAL"

func newStage(ctx context.Context, a *app, f *deploy.File, n *deploy.Node) (_ *stage, err error) {
	id := rand.Text()
	g := &stage{mark: markName + "=" + id, atOnce: a.atOnce}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close(ctx))
		}
	}()
	if err := os.Setenv(markName, id); err != nil {
		return nil, err
	}
	if g.node, err = node.Start(); err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp("", "conc-rehearse-"); err != nil {
		return nil, err
	}
	// TMPDIR may be relative, or a link.
	dir, err := filepath.Abs(g.dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	g.dir = dir
	g.atOnce.set(g.leave)
	// What is rehearsed leaves no trace in the operator's own state and journal.
	own := *a
	own.stateDir = filepath.Join(g.dir, "state")
	own.journal = journal.New(own.stateDir)
	own.spoolsDir = filepath.Join(g.dir, "spools")
	g.session = &session{app: &own, file: f, node: n, target: g.node.Target(), dir: n.Bundle()}
	return g, g.session.configure(g.mountPoint(), "rehearsal")
}

func (g *stage) mountPoint() string { return filepath.Join(g.dir, "mount") }

// leave is close for who does not wait for what is going on: that fails under it.
func (g *stage) leave() {
	_, _ = g.end(0, func(proc.Process) bool { return true })
	if mountpoint.Unmount(g.mountPoint(), true) == nil {
		_, _ = mountpoint.Recover(g.mountPoint())
	}
	_ = g.node.Close()
	_ = rmtree.Remove(g.dir)
}

// close ends and removes everything, in whatever state it is.
func (g *stage) close(ctx context.Context) error {
	err := g.abandon(context.WithoutCancel(ctx))
	if g.session != nil {
		g.session.close()
	}
	if g.node != nil {
		err = errors.Join(err, g.node.Close())
	}
	if g.dir != "" {
		err = errors.Join(err, rmtree.Remove(g.dir))
	}
	g.atOnce.set(nil)
	if err != nil {
		return fmt.Errorf("rehearse: clean up: %w", err)
	}
	return nil
}

// forgetTime bounds what a mount that could not be closed may take to end by itself.
const forgetTime = 20 * time.Second

// abandon ends what steps have left running, and a mount that could not be closed with all
// that it has not sent: the node is thrown away, too.
func (g *stage) abandon(ctx context.Context) error {
	left, err := g.end(0, func(p proc.Process) bool { return !isMount(p) })
	if len(left) > 0 {
		g.session.app.ui.warn(g.session.node.Name, "", "the steps have left processes running, which are ended: %s", strings.Join(left, "; "))
	}
	if g.session != nil && g.session.bundle != nil {
		err = errors.Join(err, g.forget(ctx))
		g.session.close() // which the mount program waits for
	}
	_, kerr := g.end(forgetTime, func(proc.Process) bool { return true })
	os.Unsetenv(markName)
	return errors.Join(err, kerr)
}

// forget gives up a bundle that is still open.
func (g *stage) forget(ctx context.Context) error {
	if _, ok := g.session.bundle.State(); !ok {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, forgetTime)
	_, err := g.session.bundle.Forget(limited)
	cancel()
	if err == nil {
		return nil
	}
	// It is in use, or hangs: without its program it is unmounted from under whoever uses it.
	if _, err := g.end(0, func(proc.Process) bool { return true }); err != nil {
		return err
	}
	_, err = g.session.bundle.Forget(ctx)
	return err
}

// isMount tells whether a process is a mount program.
func isMount(p proc.Process) bool {
	return strings.HasPrefix(p.String(), fmt.Sprintf("%d bundlefs ", p.PID))
}

// end kills which of the processes that were started here, and have not ended by themselves
// after a grace; it returns when they are gone, and tells which they were.
func (g *stage) end(grace time.Duration, which func(proc.Process) bool) (killed []string, err error) {
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	told := map[int]bool{}
	for {
		living := slices.DeleteFunc(proc.Marked(g.mark), func(p proc.Process) bool { return p.PID == os.Getpid() || !which(p) })
		switch {
		case len(living) == 0:
			return killed, nil
		case time.Since(start) > grace+10*time.Second:
			return killed, fmt.Errorf("process %v does not end", living[0])
		case time.Since(start) >= grace:
			for _, p := range living {
				if !told[p.PID] {
					told[p.PID] = true
					killed = append(killed, p.String())
				}
				p.Signal(unix.SIGKILL)
			}
		}
		<-tick.C
	}
}
