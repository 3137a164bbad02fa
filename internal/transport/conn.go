package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Opener opens a stream to an SFTP server. Closing the stream ends what is at the other end of
// it, and any read or write that waits.
type Opener func(ctx context.Context) (io.ReadWriteCloser, error)

// Options of a connection.
type Options struct {
	// Open opens a stream; it is called Streams times at most.
	Open Opener
	// Streams is how many to use side by side when there are as many sessions; 0 means 1.
	Streams int
	// AliveLimit is what Conn.AliveLimit returns.
	AliveLimit time.Duration
}

// errClosed is the error after Close.
var errClosed = errors.New("the connection is closed")

// Conn is a connection to an SFTP server. Its methods may be used by many goroutines. When one
// of its streams ends, all of it does.
type Conn struct {
	o    Options
	done chan struct{}

	opening sync.Mutex // held while a stream is opened; taken before mu

	mu      sync.Mutex // guards what follows
	streams []*mux
	err     error // why it has ended
}

// Dial opens the first stream and greets the server. ctx is for that only.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	c := &Conn{o: o, done: make(chan struct{})}
	_, err := c.add(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// add opens one more stream.
func (c *Conn) add(ctx context.Context) (*mux, error) {
	stream, err := c.o.Open(ctx)
	if err != nil {
		return nil, err
	}
	m, err := newMux(ctx, stream)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	err = c.err
	if err == nil {
		c.streams = append(c.streams, m)
	}
	c.mu.Unlock()
	if err != nil {
		m.end(errClosed)
		return nil, err
	}
	go func() {
		<-m.done
		c.end(m.why())
	}()
	return m, nil
}

// OpenSubsystem opens a session of the subsystem sftp; there are no others.
func (c *Conn) OpenSubsystem(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	if name != "sftp" {
		return nil, fmt.Errorf("open subsystem %s: the connection carries nothing but sftp", name)
	}
	c.opening.Lock()
	defer c.opening.Unlock()
	c.mu.Lock()
	streams, err := c.streams, c.err
	c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("open subsystem %s: %w", name, err)
	}
	best := streams[0]
	for _, m := range streams[1:] {
		if m.sessions() < best.sessions() {
			best = m
		}
	}
	if best.sessions() > 0 && len(streams) < c.o.Streams {
		if best, err = c.add(ctx); err != nil {
			return nil, err
		}
	}
	return best.open()
}

// Asks reports whether another session may take another stream, for which the program that is
// started may ask for a password.
func (c *Conn) Asks() bool { return c.o.Streams > 1 }

// AliveLimit is how long the server may owe an answer until the connection counts as lost;
// 0: for ever.
func (c *Conn) AliveLimit() time.Duration { return c.o.AliveLimit }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended; nil while it stands.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Conn) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	streams := c.streams
	c.mu.Unlock()
	for _, m := range streams {
		m.end(err)
	}
	close(c.done)
}

// Close ends the connection, its sessions and its streams.
func (c *Conn) Close() error {
	c.end(errClosed)
	<-c.done
	return nil
}
