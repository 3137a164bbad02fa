package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hold keeps the other processes of this user off a bundle: a flock on
// KEY.lock, which the kernel drops when the process ends, however it ends. The
// file's text says who has it.
type hold struct{ f *os.File }

// Hold keeps other processes of this user from working on the bundle until
// release is called. It can be called again by a holder; each call needs its
// release. *InUseError when another process has it.
func (b *Bundle) Hold(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		h, err := b.store.acquire(b.key())
		var inUse *InUseError
		if errors.As(err, &inUse) {
			inUse.Node, inUse.Dir = b.cfg.Node, b.cfg.Dir
		}
		if err != nil {
			return nil, err
		}
		st, err := b.store.load(b.key()) // another process may have changed it until now
		if err != nil {
			h.release(false)
			return nil, err
		}
		b.held, b.state = h, st
	}
	b.holds++
	return b.unhold, nil
}

func (b *Bundle) unhold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holds--; b.holds == 0 {
		b.held.release(b.state == nil)
		b.held = nil
	}
}

func (s *store) acquire(key string) (*hold, error) {
	name := filepath.Join(s.dir, key+".lock")
	for {
		if err := s.make(); err != nil {
			return nil, fmt.Errorf("state folder: %w", err)
		}
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock state: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if err == unix.EWOULDBLOCK {
				return nil, inUse(f)
			}
			return nil, fmt.Errorf("lock state %s: %w", name, err)
		}
		// A holder that closed its bundle removes the file: what we locked
		// must still be what the name leads to.
		if same(f, name) {
			f.Truncate(0)
			fmt.Fprintf(f, "%d %s\n", os.Getpid(), filepath.Base(os.Args[0])+" "+strings.Join(os.Args[1:], " "))
			return &hold{f}, nil
		}
		f.Close()
	}
}

func inUse(f *os.File) *InUseError {
	text, _ := io.ReadAll(io.LimitReader(f, 4096))
	pid, command, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	n, _ := strconv.Atoi(pid)
	e := &InUseError{PID: n, Command: clean(command)}
	if info, err := f.Stat(); err == nil {
		e.Since = info.ModTime()
	}
	return e
}

func same(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}

// release gives the lock back; gone also removes the file.
func (h *hold) release(gone bool) {
	if gone {
		os.Remove(h.f.Name())
	}
	// Closing is not enough: a process that is just being started by another thread still has the file.
	unix.Flock(int(h.f.Fd()), unix.LOCK_UN)
	h.f.Close()
}
