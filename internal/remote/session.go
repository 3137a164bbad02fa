package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// SessionError is a session that the node did not open, on a connection that stands.
type SessionError struct {
	Host string
	What string // e.g. "subsystem sftp"
	Err  error
}

func (e *SessionError) Error() string {
	return fmt.Sprintf("open %s on %s: %v", e.What, e.Host, e.Err)
}

func (e *SessionError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *SessionError) Hint() string {
	var open *ssh.OpenChannelError
	var noise *NoiseError
	switch {
	case errors.As(e.Err, &noise):
		return noise.Hint()
	case strings.HasPrefix(e.What, "command "):
		return "is the program there on the node, and may this user start it? its name has to be the whole path"
	case errors.As(e.Err, &open):
		return "sshd limits the sessions of one connection: MaxSessions in the node's sshd_config, 10 by default"
	}
	return fmt.Sprintf("does the node's sshd_config allow it for this user (Subsystem, ForceCommand, restricted keys)? it must for %s", e.What)
}

// NoiseError is text where SFTP should begin: the login shell of the user, through which the node
// starts the server, has printed something.
type NoiseError struct{ Text string }

func (e *NoiseError) Error() string {
	return fmt.Sprintf("the login shell on the node printed %q before SFTP began", e.Text)
}

// Hint says what to do.
func (e *NoiseError) Hint() string {
	return "a file that the login shell reads on the node (~/.bashrc, ~/.cshrc, …), or a ForceCommand, prints this: let it print in interactive shells only; " +
		"ssh to the node with the command 'true' must print nothing"
}

// sessionRequest is a request on a session, which the node answers with yes or no.
type sessionRequest struct {
	name    string
	payload any
}

// errRequest is a session request that the node answered with no.
var errRequest = errors.New("the node refused")

// session opens a channel of type session and makes requests on it. When ctx ends first, or the node
// does not answer in time, the channel is closed as soon as it is there.
func (c *Client) session(ctx context.Context, what string, requests ...sessionRequest) (ssh.Channel, <-chan *ssh.Request, error) {
	ctx, cancel := c.limit(ctx, "answer to the request for "+what)
	defer cancel()
	if err := c.Err(); err != nil {
		return nil, nil, fmt.Errorf("open %s on %s: %w", what, c.HostPort(), err)
	}
	type opened struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	result := make(chan opened)
	go func() {
		ch, reqs, err := c.ssh.OpenChannel("session", nil)
		if err == nil {
			for _, r := range requests {
				ok, rerr := ch.SendRequest(r.name, true, ssh.Marshal(r.payload))
				if err = rerr; err == nil && !ok {
					err = errRequest
				}
				if err != nil {
					break
				}
			}
			if err != nil {
				_ = ch.Close()
				go ssh.DiscardRequests(reqs)
			}
		}
		select {
		case result <- opened{ch, reqs, err}:
		case <-ctx.Done():
			if err == nil {
				_ = ch.Close()
				go ssh.DiscardRequests(reqs)
			}
		}
	}()
	select {
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("open %s on %s: %w", what, c.HostPort(), context.Cause(ctx))
	case r := <-result:
		if r.err == nil {
			return r.ch, r.reqs, nil
		}
		if lost := c.lost(r.err); lost != nil {
			return nil, nil, fmt.Errorf("open %s on %s: %w", what, c.HostPort(), lost)
		}
		return nil, nil, &SessionError{Host: c.HostPort(), What: what, Err: r.err}
	}
}

// lost is why the connection ended, or nil when it stands. Sessions notice its
// end a moment before the connection does, so an error that the node did not
// send is given that moment.
func (c *Client) lost(err error) error {
	var open *ssh.OpenChannelError
	if errors.Is(err, errRequest) || errors.As(err, &open) {
		return c.Err()
	}
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	}
	return c.Err()
}

// SFTP opens an SFTP session of its own; its Close ends the session and leaves
// the connection. ctx is for the opening only.
func (c *Client) SFTP(ctx context.Context, opts ...sftp.ClientOption) (*sftp.Client, error) {
	ch, err := c.OpenSubsystem(ctx, "sftp")
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.limit(ctx, "answer of the SFTP server")
	defer cancel()
	type opened struct {
		client *sftp.Client
		err    error
	}
	result := make(chan opened)
	go func() {
		client, err := sftp.NewClientPipe(ch, ch, opts...)
		select {
		case result <- opened{client, err}:
		case <-ctx.Done():
			if err == nil {
				client.Close()
			}
		}
	}()
	select {
	case <-ctx.Done():
		go ch.Close() // may wait for a link that is stuck
		return nil, fmt.Errorf("open subsystem sftp on %s: %w", c.HostPort(), context.Cause(ctx))
	case r := <-result:
		if r.err == nil {
			return r.client, nil
		}
		_ = ch.Close()
		var said *SessionError
		if errors.As(r.err, &said) {
			return nil, said
		}
		if lost := c.lost(r.err); lost != nil {
			return nil, fmt.Errorf("open subsystem sftp on %s: %w", c.HostPort(), lost)
		}
		return nil, &SessionError{Host: c.HostPort(), What: "subsystem sftp", Err: r.err}
	}
}
