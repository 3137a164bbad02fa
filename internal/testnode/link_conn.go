package testnode

import (
	"net"
	"sync"
	"time"
)

// linkConn is one connection over a link.
type linkConn struct {
	l        *Link
	client   *net.TCPConn
	up, down *pipe

	mu     sync.Mutex   // guards what follows; locked after the link's
	server *net.TCPConn // nil until the address was reached
	broken bool         // was reset
}

func newLinkConn(l *Link, client *net.TCPConn) (*linkConn, error) {
	c := &linkConn{l: l, client: client}
	var err error
	if c.up, err = newPipe(c, &l.up); err != nil {
		return nil, err
	}
	if c.down, err = newPipe(c, &l.down); err != nil {
		c.up.close()
		return nil, err
	}
	return c, nil
}

// opposite returns the pipe of the other direction.
func (c *linkConn) opposite(p *pipe) *pipe {
	if p == c.up {
		return c.down
	}
	return c.up
}

// run connects to the address, passes bytes both ways until both sides have closed or the
// connection is reset, and closes both.
func (c *linkConn) run() {
	defer c.client.Close()
	defer c.up.close()
	defer c.down.close()
	server := c.connect()
	if server == nil {
		c.reset()
		return
	}
	defer server.Close()
	c.up.src, c.up.dst = c.client, server
	c.down.src, c.down.dst = server, c.client
	var parts sync.WaitGroup
	parts.Go(c.up.read)
	parts.Go(c.up.write)
	parts.Go(c.down.read)
	parts.Go(c.down.write)
	parts.Wait()
}

// connect reaches the address after the time that this takes on the link; nil when it cannot be reached or the
// connection was reset meanwhile. The client's bytes wait in the kernel until then.
func (c *linkConn) connect() *net.TCPConn {
	c.l.mu.Lock()
	rtt := c.l.rtt
	c.l.mu.Unlock()
	if rtt > 0 {
		arrival := time.NewTimer(rtt + rtt/2)
		defer arrival.Stop()
		select {
		case <-arrival.C:
		case <-c.l.quit:
			return nil
		}
	}
	for {
		c.l.mu.Lock()
		open := c.l.open
		c.l.mu.Unlock()
		select {
		case <-open:
		case <-c.l.quit:
			return nil
		}
		if !c.l.dropping.Load() && !c.l.paused.Load() {
			break
		}
	}
	conn, err := net.Dial("tcp", c.l.target)
	if err != nil {
		return nil
	}
	server := conn.(*net.TCPConn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		server.Close()
		return nil
	}
	c.server = server
	return server
}

// reset ends the connection with a TCP reset on both sides.
func (c *linkConn) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return
	}
	c.broken = true
	_ = c.client.SetLinger(0)
	c.client.Close()
	if c.server != nil {
		_ = c.server.SetLinger(0)
		c.server.Close()
	}
	c.up.kill()
	c.down.kill()
}

// changed tells that the link began or ended to drop or to pause.
func (c *linkConn) changed() {
	c.up.changed()
	c.down.changed()
}

// lossy says whether the connection has lost bytes, or the news of its end.
func (c *linkConn) lossy() bool { return c.up.isLossy() || c.down.isLossy() }
