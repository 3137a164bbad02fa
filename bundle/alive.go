package bundle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/control"
	"bundlefs/internal/proc"
)

// life is how the process is that serves a mount.
type life int

const (
	gone  life = iota // there is none
	lives             // it answers
	hung              // it is there, and does not answer
)

const (
	aliveTime = 5 * time.Second  // how long a mount may take to answer whether it lives
	endTime   = 10 * time.Second // how long a mount program may take to end
	sendTime  = 40 * time.Second // how long one may go on sending that was unmounted by others
)

// probe finds out how the process is that serves a mount, and which it is. That it can be connected
// to says nothing: the kernel accepts in the name of a process that is stopped, or about to end.
func probe(ctx context.Context, folder string) (life, proc.Process) {
	limit, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	for {
		p, err := ping(limit, folder)
		switch {
		case err == nil:
			return lives, p
		case limit.Err() != nil:
			if p.PID == 0 || !p.Alive() {
				return gone, p
			}
			return hung, p
		case p.PID == 0 || !p.Alive():
			return gone, p
		}
		// It hangs up: it is ending, or has another reason that is worth another try.
		select {
		case <-limit.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ping asks a mount program for its state; the process is the zero one when nobody can be asked.
func ping(ctx context.Context, folder string) (p proc.Process, err error) {
	c, err := control.Dial(ctx, folder)
	if err != nil {
		return p, err
	}
	defer c.Close()
	if pid, err := c.Peer(); err == nil {
		p, _ = proc.Read(pid)
	}
	err = c.Call(ctx, "status", map[string]bool{"ping": false}, nil, nil)
	var answered *control.Error
	if errors.As(err, &answered) { // as one that is not mounted yet
		err = nil
	}
	return p, err
}

// alive tells whether the process that serves a mount answers.
func alive(ctx context.Context, folder string) bool {
	how, _ := probe(ctx, folder)
	return how == lives
}

// endHung ends a mount program that does not answer, and waits until it cannot act any more: what
// it has not sent is in the spool. It reports whether the mount has a process that answers.
func (b *Bundle) endHung(ctx context.Context, folder string) (answers bool, err error) {
	how, p := probe(ctx, folder)
	if err := ctx.Err(); err != nil || how != hung {
		return how == lives, err
	}
	b.log.Warn("the mount program does not answer, and is ended; what it has not sent is kept, and sent by the next one", "process", p.String())
	p.Signal(unix.SIGKILL)
	limit, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	for p.Alive() {
		select {
		case <-limit.Done():
			if err := ctx.Err(); err != nil {
				return false, err
			}
			return false, withHint(fmt.Errorf("mount %s: the mount program %s does not answer, and does not end", folder, p),
				fmt.Sprintf("end process %d (it may wait for a disk: ps -o stat,wchan %[1]d), then try again", p.PID))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false, nil
}
