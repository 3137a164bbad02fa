package fs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The kernel passes on that a request is interrupted by any signal at all, and
// waits for the answer all the same. Programs get signals of which they want to
// know nothing here: Go's scheduler sends itself SIGURG, timers tick, children
// end. On a disk none of those breaks off a mkdir, and few programs are ready for
// it. So a request ends early only for a signal that asks the program to end; which
// one it was is to be seen in /proc.

// endPoll is how often the signals of a program are looked at whose request was
// interrupted: the kernel tells only of the first.
const endPoll = 250 * time.Millisecond

// calls are the requests of a mount that wait for something.
type calls struct {
	mu      sync.Mutex // guards what follows
	waiting map[uint64]*call
	ended   bool // the mount has ended
}

func newCalls() *calls { return &calls{waiting: map[uint64]*call{}} }

// call is the context of one request. It is done when the program that waits for
// the answer is to end, when the mount has ended, and when the request has been
// answered. Only one of which somebody waits for the end is known to its calls.
type call struct {
	context.Context                 // of the background: no deadline, no values
	all             *calls          // whose mu guards what is below
	unique          uint64          // the kernel's number of the request
	cancel          <-chan struct{} // closed when the request is interrupted
	thread          uint32          // of the program, 0 if it is in another PID namespace

	done    chan struct{} // nil as long as nobody waits for it
	watched bool
	err     error
}

// request returns the context of a kernel request, and what is to be called when
// it has been answered.
func (g *glue) request(cancel <-chan struct{}, h *fuse.InHeader) (ctx context.Context, answered func()) {
	c := &call{Context: context.Background(), all: g.calls, unique: h.Unique, cancel: cancel, thread: h.Pid}
	opcode, start := h.Opcode, time.Now()
	return c, func() {
		g.times.add(opcode, time.Since(start))
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		c.end()
	}
}

// Done implements [context.Context].
func (c *call) Done() <-chan struct{} {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.done != nil {
		return c.done
	}
	c.done = make(chan struct{})
	if c.err != nil || c.all.ended {
		c.err = context.Canceled
		close(c.done)
		return c.done
	}
	c.all.waiting[c.unique] = c
	select {
	case <-c.cancel:
		c.watch()
	default: // the kernel will tell: see interrupted
	}
	return c.done
}

// Err implements [context.Context].
func (c *call) Err() error {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	return c.err
}

// end ends the context; mu is held.
func (c *call) end() {
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.done != nil {
		delete(c.all.waiting, c.unique)
		close(c.done)
	}
}

// watch has the context end when the program is to end; mu is held.
func (c *call) watch() {
	if c.watched {
		return
	}
	c.watched = true
	go func() {
		poll := time.NewTicker(endPoll)
		defer poll.Stop()
		for !mustEnd(c.thread) {
			select {
			case <-c.done:
				return
			case <-poll.C:
			}
		}
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		c.end()
	}()
}

// interrupted is told that the kernel has interrupted a request.
func (a *calls) interrupted(unique uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.waiting[unique]; c != nil {
		c.watch()
	}
}

// end ends all contexts, since the mount has ended.
func (a *calls) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	for _, c := range a.waiting {
		c.end()
	}
}

// mustEnd reports whether a signal waits for the thread that asks its program to
// end. What cannot be found out counts as one.
func mustEnd(thread uint32) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return !errors.Is(err, syscall.ESRCH) || thread == 0
	}
	defer f.Close()
	sets := map[string]uint64{}
	for in := bufio.NewScanner(f); in.Scan(); {
		if name, value, ok := strings.Cut(in.Text(), ":"); ok && strings.HasPrefix(name, "S") {
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil {
				sets[name] = n
			}
		}
	}
	pending := (sets["SigPnd"] | sets["ShdPnd"]) &^ sets["SigBlk"]
	return endsProgram(pending, sets["SigCgt"], sets["SigIgn"])
}

func signals(l ...syscall.Signal) (set uint64) {
	for _, s := range l {
		set |= 1 << (s - 1)
	}
	return set
}

var (
	// askToEnd are the signals that ask a program to end, even if it catches them.
	askToEnd = signals(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGKILL)
	// harmless are those which do not end a program that does not catch them.
	harmless = signals(syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH,
		syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
)

// endsProgram reports whether one of the pending signals asks for the end.
func endsProgram(pending, caught, ignored uint64) bool {
	return pending&^ignored&(askToEnd|^(caught|harmless)) != 0
}
