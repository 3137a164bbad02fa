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

// call is the context of one request. It is done when the program that waits for
// the answer is to end, when the mount has ended, and when the request has been
// answered.
type call struct {
	context.Context // of the background: no deadline, no values
	cancel, gone    <-chan struct{}
	thread          uint32 // of the program, 0 if it is in another PID namespace

	once     sync.Once
	done     chan struct{}
	answered chan struct{}

	mu  sync.Mutex // guards err
	err error
}

// request returns the context of a kernel request, and what is to be called when
// it has been answered.
func (g *glue) request(cancel <-chan struct{}, h *fuse.InHeader) (ctx context.Context, answered func()) {
	c := &call{
		Context: context.Background(), cancel: cancel, gone: g.gone, thread: h.Pid,
		done: make(chan struct{}), answered: make(chan struct{}),
	}
	start := time.Now()
	return c, func() { g.times.add(h.Opcode, time.Since(start)); close(c.answered) }
}

// Done implements [context.Context]. Only who asks makes somebody watch.
func (c *call) Done() <-chan struct{} {
	c.once.Do(func() { go c.watch() })
	return c.done
}

// Err implements [context.Context].
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *call) watch() {
	select {
	case <-c.answered:
	case <-c.gone:
	case <-c.cancel:
		poll := time.NewTicker(endPoll)
		defer poll.Stop()
		for over := false; !over && !mustEnd(c.thread); {
			select {
			case <-c.answered:
				over = true
			case <-c.gone:
				over = true
			case <-poll.C:
			}
		}
	}
	c.mu.Lock()
	c.err = context.Canceled
	c.mu.Unlock()
	close(c.done)
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
