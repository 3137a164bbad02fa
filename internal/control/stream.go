package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxFrame is how many bytes a frame has at most.
const maxFrame = 256 << 10

// Send calls op with the bytes that from gives up to io.EOF. An error of from ends the
// connection, so that the server does not take a part for the whole. Else as Call.
func (c *Client) Send(ctx context.Context, op string, args any, from io.Reader, result any) error {
	return c.call(ctx, request{Op: op, Data: dataIn}, args, result, func(line []byte) (*reply, error) {
		r, err := c.roundTrip(line, nil)
		if err != nil || !r.Go {
			return r, err
		}
		out := frameWriter{c.conn}
		// *os.File as from would write to the connection in its own way.
		_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{from}, make([]byte, maxFrame))
		if err != nil {
			return nil, err
		}
		return c.answer(out.end(), nil)
	})
}

// Fetch calls op and writes its bytes to to. An error of to ends the connection. Else as Call.
func (c *Client) Fetch(ctx context.Context, op string, args any, to io.Writer, result any) error {
	return c.call(ctx, request{Op: op, Data: dataOut}, args, result, func(line []byte) (*reply, error) {
		r, err := c.roundTrip(line, nil)
		if err != nil || !r.Go {
			return r, err
		}
		// The scanner has read ahead: what follows the line is its to give.
		if _, err := io.Copy(to, &frameReader{from: c.in}); err != nil {
			return nil, err
		}
		return c.answer(nil, nil)
	})
}

// stream answers a request with bytes. An error means that the connection is of no use any more.
func (s *Server) stream(ctx context.Context, p *peer, r request) error {
	h, ok := s.handler.(Streamer)
	if !ok || r.Data != dataIn && r.Data != dataOut {
		return p.send(reply{Error: wireError(&UnknownOpError{Op: r.Op})})
	}
	if err := p.send(reply{Go: true}); err != nil {
		return err
	}
	var result any
	var err error
	if r.Data == dataIn {
		in := &frameReader{from: p.conn}
		result, err = h.Receive(ctx, r.Op, r.Args, in)
		// Its end has to be reached before the next line.
		if _, derr := io.Copy(io.Discard, in); derr != nil {
			return derr
		}
	} else {
		out := frameWriter{p.conn}
		result, err = h.Send(ctx, r.Op, r.Args, out)
		if eerr := out.end(); eerr != nil {
			return eerr
		}
	}
	return p.send(s.last(r, result, err))
}

// frameWriter writes what it gets as frames.
type frameWriter struct{ to io.Writer }

func (w frameWriter) Write(b []byte) (int, error) {
	done := 0
	for len(b) > 0 {
		part := b[:min(len(b), maxFrame)]
		if _, err := w.to.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(part)), uint32(len(part))), part...)); err != nil {
			return done, err
		}
		done += len(part)
		b = b[len(part):]
	}
	return done, nil
}

// end writes the frame without bytes.
func (w frameWriter) end() error {
	_, err := w.to.Write([]byte{0, 0, 0, 0})
	return err
}

// frameReader reads what is in frames, up to their end.
type frameReader struct {
	from  io.Reader
	left  int // of the frame that is being read
	ended bool
	err   error // why no more can be read
}

func (r *frameReader) Read(b []byte) (int, error) {
	switch {
	case r.ended:
		return 0, io.EOF
	case r.err != nil:
		return 0, r.err
	case len(b) == 0:
		return 0, nil
	}
	if r.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(r.from, head[:]); err != nil {
			return 0, r.fail(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		switch {
		case n > maxFrame:
			return 0, r.fail(fmt.Errorf("a frame of %d bytes", n))
		case n == 0:
			r.ended = true
			return 0, io.EOF
		}
		r.left = int(n)
	}
	n, err := r.from.Read(b[:min(len(b), r.left)])
	r.left -= n
	if err != nil {
		return n, r.fail(err)
	}
	return n, nil
}

// fail notes why nothing more can be read: the connection has ended too early.
func (r *frameReader) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	r.err = fmt.Errorf("bytes of a control request: %w", err)
	return r.err
}
