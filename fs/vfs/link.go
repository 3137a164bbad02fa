package vfs

import "context"

// Link is a connection with its sessions that was made before the file system that is to use it:
// while it is not known yet whether there will be one.
type Link struct {
	t     *transport
	c     *connection
	taken bool
}

// Connect makes a link for an exclusive file system with these options. It belongs to the caller
// until a file system has taken it.
func Connect(ctx context.Context, o ExclusiveOptions) (*Link, error) {
	o.complete()
	return newLink(ctx, o.transport())
}

func newLink(ctx context.Context, o transportOptions) (*Link, error) {
	t := &transport{transportOptions: o, changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	c, err := t.open(ctx)
	if err != nil {
		t.close()
		return nil, err
	}
	return &Link{t: t, c: c}, nil
}

// take makes the transport of it, which looks after the connection from now on.
func (l *Link) take(o transportOptions) *transport {
	l.taken = true
	l.t.transportOptions = o
	l.t.current = l.c
	l.t.tasks.Go(l.t.keep)
	return l.t
}

// fit tells whether the connection still stands.
func (l *Link) fit() bool {
	if l == nil || l.taken || l.c.isLost() {
		return false
	}
	select {
	case <-l.c.conn.Done():
		return false
	default:
		return true
	}
}

// Close ends a link that no file system has taken; else it does nothing.
func (l *Link) Close() {
	if !l.taken {
		l.taken = true
		l.c.close()
		l.t.close()
	}
}
