package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Client is a connection to a node. Its methods may be used from several
// goroutines at once.
type Client struct {
	ssh  *ssh.Client
	conn *watchedConn
	via  *Client // the last jump host, nil if there is none; closed with this one
	s    *settings
	log  *slog.Logger

	done    chan struct{}
	running sync.WaitGroup // the goroutines of the connection itself

	mu  sync.Mutex // guards err
	err error
}

// newClient looks after a connection. why, if not nil, gives the reason for its end, in place of the
// error with which it ended.
func newClient(sc *ssh.Client, conn *watchedConn, s *settings, via *Client, log *slog.Logger, why func() error) *Client {
	c := &Client{ssh: sc, conn: conn, via: via, s: s, log: log, done: make(chan struct{})}
	c.running.Go(func() {
		err := sc.Wait()
		if via != nil {
			select {
			case <-via.done: // the cause is there, not here
				err = via.Err()
			default:
			}
			_ = via.Close()
		}
		if why != nil {
			err = why()
		}
		c.fail(err)
		close(c.done)
	})
	if s.alive > 0 {
		c.running.Go(c.keepalive)
	}
	return c
}

// fail keeps the first reason why the connection ended.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if err == nil {
		err = errors.New("it was closed by the node")
	}
	c.err = &LostError{Host: c.HostPort(), Err: err}
	c.log.Debug("connection lost", "error", err)
}

// keepalive asks the node for a sign of life when nothing came in for an
// interval, and ends the connection when ServerAliveCountMax intervals in a row
// brought nothing. Whatever comes in counts as a sign: on a slow link the answer
// itself may wait behind data.
func (c *Client) keepalive() {
	tick := time.NewTicker(c.s.alive)
	defer tick.Stop()
	answered := make(chan struct{}, 1)
	waiting, missed := false, 0
	seen := c.conn.received.Load()
	for {
		select {
		case <-c.done:
			return
		case <-answered:
			waiting = false
			continue
		case <-tick.C:
		}
		if now := c.conn.received.Load(); now != seen {
			seen, missed = now, 0
			continue
		}
		if missed++; missed > c.s.aliveMax {
			c.fail(fmt.Errorf("no answer to keepalives in %v", c.s.alive*time.Duration(missed)))
			c.hangUp()
			return
		}
		if !waiting {
			waiting = true
			c.running.Go(func() {
				// A node that does not know the request answers as well. The
				// call ends with the connection at the latest.
				_, _, _ = c.ssh.SendRequest("keepalive@openssh.com", true, nil)
				answered <- struct{}{}
			})
		}
	}
}

// AliveLimit is how long the node may be silent until the connection counts as lost:
// ServerAliveInterval times ServerAliveCountMax; 0: for ever.
func (c *Client) AliveLimit() time.Duration { return c.s.alive * time.Duration(c.s.aliveMax) }

// Done is closed when the connection has ended, by Close or by itself.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection stands, ErrClosed after Close, and a
// *LostError when it ended by itself.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection with all its sessions, and those to the jump hosts.
// It does not wait for the node. More calls do nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = ErrClosed
	}
	c.mu.Unlock()
	c.hangUp()
	c.running.Wait()
	return nil
}

// hangUp ends the connection at once. The jump host goes first: a connection
// through it is closed by a message, which cannot be sent on a link that is stuck.
func (c *Client) hangUp() {
	if c.via != nil {
		_ = c.via.Close()
	}
	_ = c.conn.Close()
}

// User is the user on the node.
func (c *Client) User() string { return c.s.user }

// HostPort is the address that was connected to, as host:port, after ssh_config.
func (c *Client) HostPort() string {
	return net.JoinHostPort(c.s.host, strconv.Itoa(c.s.port))
}
