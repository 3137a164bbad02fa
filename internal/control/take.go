package control

import (
	"bufio"
	"context"
	"net"
	"time"
)

// Connection is the request for the connection to the node: its answer is a ConnectionAnswer, and
// then the mount program speaks SSH as a server (see remote.Over). Any error of it means that the
// caller has to make a connection of its own.
const Connection = "ssh"

// ConnectionAnswer is the answer to Connection.
type ConnectionAnswer struct {
	Key []byte `json:"key"` // by which the mount program proves that it is the other end
}

// Take calls op, as Call, and takes over the connection, which is then the caller's to close: the
// Client cannot be used any more. A server that does not let it be taken over for op answers as
// for an unknown one.
func (c *Client) Take(ctx context.Context, op string, args, result any) (net.Conn, error) {
	err := c.call(ctx, request{Op: op, Data: dataConn}, args, result, func(line []byte) (*reply, error) { return c.roundTrip(line, nil) })
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil { // ctx ended with the answer
		c.conn.Close()
		return nil, c.broken
	}
	c.broken = net.ErrClosed
	return &takenConn{c.conn, c.in}, nil
}

// takenConn is a connection of which a part may have been read ahead.
type takenConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *takenConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// give answers a request that takes over the connection, and tells whether it was given away.
// release ends the server's hold on it; it is false when the server closes.
func (s *Server) give(p *peer, r request, release func() bool) bool {
	h, ok := s.handler.(Taker)
	if !ok {
		_ = p.send(reply{Error: wireError(&UnknownOpError{Op: r.Op})})
		return false
	}
	answer, serve, err := h.Take(s.ctx, r.Op, r.Args)
	last := s.last(r, answer, err)
	if err != nil || last.Error != nil {
		if err == nil {
			serve(nil)
		}
		_ = p.send(last)
		return false
	}
	if !release() || p.conn.SetDeadline(time.Time{}) != nil || p.send(last) != nil {
		serve(nil)
		p.conn.Close()
		return true
	}
	go serve(p.conn)
	return true
}
