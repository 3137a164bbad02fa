package remote

import (
	"context"
	"fmt"
	"time"
)

// SilentError is a node that gave no sign of life within the limit (Target.Timeout), on a
// connection that stands.
type SilentError struct {
	Host  string
	What  string // what was waited for
	Limit time.Duration
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("wait for the %s on %s: nothing in %v", e.What, e.Host, e.Limit)
}

// Hint says where to look.
func (e *SilentError) Hint() string {
	return "does the login shell on the node hang? look at it, at the files that it reads (~/.bashrc, ~/.profile, …) and at ForceCommand " +
		"in the node's sshd_config: ssh to the node with the command 'true' must end at once; sshd.timeout in deploy.ini sets how long to wait"
}

func (c *Client) silent(what string) error {
	return &SilentError{Host: c.HostPort(), What: what, Limit: c.s.silence}
}

// limit bounds a wait for a sign of life of the node; the cause of its end tells what was waited for.
func (c *Client) limit(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.s.silence, c.silent(what))
}

// Expect ends the command with a *SilentError when heard is not closed in time: what is to come
// from it first, such as "answer of the login shell". After that it may take as long as it likes.
func (p *Process) Expect(heard <-chan struct{}, what string) {
	go func() {
		t := time.NewTimer(p.c.s.silence)
		defer t.Stop()
		select {
		case <-heard:
		case <-p.done:
		case <-t.C:
			p.fail(p.c.silent(what))
		}
	}()
}
