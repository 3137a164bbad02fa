// Package control is the control socket of a mount: the mount program answers on it, and
// bundle, conc and `bundlefs status|sync|unmount` ask.
//
// A mount has one unix socket, named after the hash of its mount point, in a folder that
// only its owner can enter. Both sides speak lines of JSON. A client sends one request at
// a time,
//
//	{"op":"sync","args":{…}}
//
// and gets any number of progress lines, then exactly one result or error:
//
//	{"progress":{…}}
//	{"result":{…}}
//	{"error":{"msg":"…","hint":"…","errno":16}}
//
// A request with "data":"in" or "data":"out" also carries bytes, which come as frames of at
// most 256 KiB, each behind its length in four bytes, big end first; a frame without bytes is
// their end. The server first answers one line, {"go":true} or the error, so that no bytes
// come before it is ready; then the frames go over the connection, in their direction, and the
// result or error follows. See [Streamer].
//
// After the result of a request with "data":"conn" the connection is no longer a control
// connection: both sides go on with a protocol of their own. See [Taker].
//
// A client that goes away cancels the request it has running. The server answers only its
// own user and root.
//
// The mount point itself is never stat'ed here, since a mount whose link is down may let
// that hang: names are resolved without asking the mounted filesystem.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Limits of one line, in bytes, with its newline.
const (
	maxRequest = 64 << 10
	maxReply   = 16 << 20
)

// maxClients is how many connections a server keeps at once; more wait to be accepted.
const maxClients = 64

// ErrNotMounted is what Dial returns, wrapped with the mount point, when nothing answers for it.
var ErrNotMounted = errors.New("no bundlefs is mounted there")

// ExitNoFUSE is the exit code of a mount program that this machine does not let mount by FUSE.
const ExitNoFUSE = 3

// ErrMounted is what Listen returns, wrapped with the mount point, when a live process
// already answers for it.
var ErrMounted = errors.New("already mounted")

// Handler answers the requests of a server, of several clients at once.
type Handler interface {
	// Handle does op and returns a result that can be marshalled to JSON. The context ends
	// when the client goes away or the server closes. progress may be called any number of
	// times before Handle returns, from one goroutine at a time. args is nil when there are none.
	//
	// Of an error, the client sees its text, its errno (a syscall.Errno in its chain) and,
	// if an error in its chain has a method Hint() string, the hint.
	Handle(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error)
}

// Streamer is a Handler whose clients also send and fetch bytes.
type Streamer interface {
	Handler
	// Receive does op with the bytes that in gives up to io.EOF; a client that goes away
	// before their end is another error of in. What it leaves unread is thrown away.
	Receive(ctx context.Context, op string, args json.RawMessage, in io.Reader) (any, error)
	// Send does op and writes its bytes to out.
	Send(ctx context.Context, op string, args json.RawMessage, out io.Writer) (any, error)
}

// Taker is a Handler whose clients can take over the connection.
type Taker interface {
	Handler
	// Take answers op. If it has no error, the client gets the answer, and then serve is called
	// with the connection, in a goroutine of its own; or with nil, when the client has gone. It has
	// to close the connection. The server does not look after it any more, and does not wait for it in Close.
	Take(ctx context.Context, op string, args json.RawMessage) (answer any, serve func(net.Conn), err error)
}

// UnknownOpError is what a Handler returns for an op that it does not know.
type UnknownOpError struct{ Op string }

func (e *UnknownOpError) Error() string { return fmt.Sprintf("unknown control request %q", e.Op) }

// Hint tells what to do about it.
func (e *UnknownOpError) Hint() string {
	return "the mount is served by another version of bundlefs: unmount it and mount it again"
}

// Error is an error that the handler on the other side returned.
type Error struct {
	Msg    string        `json:"msg"`
	Advice string        `json:"hint,omitempty"`
	Errno  syscall.Errno `json:"errno,omitempty"` // 0 when the cause was not a system call's error
}

func (e *Error) Error() string { return e.Msg }

// Hint is what to do about it, or "".
func (e *Error) Hint() string { return e.Advice }

// Unwrap lets errors.Is find the errno, for instance syscall.EBUSY of an unmount.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

type request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
	Data string          `json:"data,omitempty"` // dataIn, dataOut, dataConn, or "" for none
}

// The directions of bytes, as the server sees them; both, and without frames, for a connection that
// is taken over.
const (
	dataIn   = "in"
	dataOut  = "out"
	dataConn = "conn"
)

type reply struct {
	Go       bool            `json:"go,omitempty"` // the frames may come
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// wireError makes of a handler's error what goes to the client.
func wireError(err error) *Error {
	w := &Error{Msg: err.Error()}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		w.Advice = h.Hint()
	}
	errors.As(err, &w.Errno)
	return w
}
