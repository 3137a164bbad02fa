package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client is a connection to the control socket of one mount. Calls on it are done one
// after the other.
type Client struct {
	mountpoint string
	conn       net.Conn
	mu         sync.Mutex // guards in and broken, and that one call is under way
	in         *bufio.Reader
	broken     error // why no further call is possible
}

// Dial connects to the process that serves the mount on mountpoint. Where there is none the
// error is ErrNotMounted, wrapped with the mount point.
func Dial(ctx context.Context, mountpoint string) (*Client, error) {
	canonical, err := Canonical(mountpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", mountpoint, ErrNotMounted)
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range runtimeDirs() {
		// A folder that is not proven ours could hold somebody else's socket.
		if private(dir) != nil {
			continue
		}
		conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, Name(canonical)+".sock"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("control socket of %s: %w", canonical, err)
		}
		return &Client{mountpoint: canonical, conn: conn, in: bufio.NewReader(conn)}, nil
	}
	return nil, fmt.Errorf("%s: %w", canonical, ErrNotMounted)
}

// Peer is the number of the process at the other end, which the kernel tells: it is told also of one
// that does not answer.
func (c *Client) Peer() (pid int, err error) {
	raw, err := c.conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return int(cred.Pid), nil
}

// Close hangs up. A request that runs is cancelled.
func (c *Client) Close() error { return c.conn.Close() }

// Call asks for op and waits for the answer, which is unmarshalled into result unless that
// is nil. args may be nil; progress too. When ctx ends first, the server cancels the
// request, and the client cannot be used any more. An error of the handler is an *Error.
func (c *Client) Call(ctx context.Context, op string, args any, result any, progress func(json.RawMessage)) error {
	return c.call(ctx, request{Op: op}, args, result, func(line []byte) (*reply, error) { return c.roundTrip(line, progress) })
}

// call sends a request by talk, which gives the last line of the answer.
func (c *Client) call(ctx context.Context, r request, args, result any, talk func(line []byte) (*reply, error)) error {
	op := r.Op
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", op, c.mountpoint, err)
		}
		r.Args = raw
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", op, c.mountpoint, err)
	}
	if len(line) >= maxRequest {
		return fmt.Errorf("%s of %s: request of more than %d bytes", op, c.mountpoint, maxRequest)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return fmt.Errorf("%s of %s: %w", op, c.mountpoint, c.broken)
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	answer, err := talk(append(line, '\n'))
	if !stop() && err == nil {
		// The context ended as the answer came in: it counts, but the deadline stays.
		c.broken = ctx.Err()
	}
	if err != nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			err = fmt.Errorf("%w: its process has ended: %w", ErrNotMounted, err)
		}
		c.broken = err
		c.conn.Close()
		return fmt.Errorf("%s of %s: %w", op, c.mountpoint, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s of %s: %w", op, c.mountpoint, answer.Error)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Result, result); err != nil {
			return fmt.Errorf("%s of %s: answer: %w", op, c.mountpoint, err)
		}
	}
	return nil
}

func (c *Client) roundTrip(line []byte, progress func(json.RawMessage)) (*reply, error) {
	// A server that refuses us answers and hangs up without reading: its reason is worth
	// more than the broken pipe.
	_, writeErr := c.conn.Write(line)
	return c.answer(writeErr, progress)
}

// answer reads up to the last line of an answer, or to the one that lets the bytes come.
func (c *Client) answer(writeErr error, progress func(json.RawMessage)) (*reply, error) {
	for {
		line, err := c.line()
		if err != nil && writeErr != nil {
			return nil, writeErr
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("malformed answer: %w", err)
		}
		switch {
		case r.Error != nil, r.Result != nil, r.Go:
			return &r, nil
		case r.Progress != nil && progress != nil:
			progress(r.Progress)
		}
	}
}

// line reads one line, of which there is no more than maxReply.
func (c *Client) line() ([]byte, error) {
	var line []byte
	for {
		part, err := c.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case len(line) > maxReply:
			return nil, fmt.Errorf("answer of more than %d bytes", maxReply)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("the mount program hung up: %w", io.ErrUnexpectedEOF)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
