package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/crypto/ssh"
)

// Over makes a client of a connection to a process that lends its connection to the node, whose
// Loan has this key. conn is closed with the client, and when Over fails. The target is that of the
// node, and ctx for the handshake only.
func Over(ctx context.Context, conn net.Conn, key []byte, t Target, o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	failed := func(err error) (*Client, error) {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("use the connection of another process to %s: %w", t, err)
	}
	s, err := resolve(t, o.Log)
	if err != nil {
		return failed(err)
	}
	public, err := ssh.ParsePublicKey(key)
	if err != nil {
		return failed(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	watched := &watchedConn{Conn: conn}
	sc, channels, requests, err := ssh.NewClientConn(watched, t.String(), &ssh.ClientConfig{
		User: s.user, HostKeyCallback: ssh.FixedHostKey(public), ClientVersion: "SSH-2.0-bundlefs",
	})
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return failed(err)
	}
	why := errors.New("the mount program that made it has ended")
	others, heard := make(chan *ssh.Request), make(chan struct{})
	go func() {
		defer close(heard)
		defer close(others)
		for r := range requests {
			if r.Type == lostRequest {
				why = errors.New(printable(string(r.Payload)))
				continue
			}
			others <- r
		}
	}()
	log := o.Log.With("host", s.host, "port", s.port)
	return newClient(ssh.NewClient(sc, channels, others), watched, s, nil, log, func() error {
		<-heard // it comes before the end
		return why
	}), nil
}
