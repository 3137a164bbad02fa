package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxHops bounds the jump hosts of one connection, above all those that the
// configurations of jump hosts name in turn.
const maxHops = 8

// Dial connects to the target, through its jump hosts, checks the host keys and
// logs in. It fails with *ConfigError, *UnreachableError, *HostKeyError or
// *AuthError, or with the cause of ctx when that ended first. ctx is for the
// dialing only: ending it later does not close the connection.
func Dial(ctx context.Context, t Target, o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return dial(ctx, t, o, 0)
}

func dial(ctx context.Context, t Target, o Options, depth int) (*Client, error) {
	s, err := resolve(t, o.Log)
	if err != nil {
		return nil, err
	}
	var via *Client
	if s.jump != "" {
		if via, err = dialJumps(ctx, s.jump, t, o, depth); err != nil {
			return nil, fmt.Errorf("jump to %s: %w", s.host, err)
		}
	}
	c, err := connect(ctx, s, o, via)
	if err != nil && via != nil {
		_ = via.Close()
	}
	return c, err
}

// dialJumps connects through the hosts of a ProxyJump list, in order. Each has
// its own configuration; only the first may name jump hosts of its own, since
// for the others the list says how to get there.
func dialJumps(ctx context.Context, list string, t Target, o Options, depth int) (*Client, error) {
	hops, err := parseJumps(list)
	if err != nil {
		return nil, err
	}
	if depth += len(hops); depth > maxHops {
		return nil, &ConfigError{Key: "ProxyJump", Msg: fmt.Sprintf("more than %d jump hosts", maxHops), Fix: "do jump hosts name each other?"}
	}
	var via *Client
	for i, hop := range hops {
		hop.Config, hop.Dir, hop.Timeout = t.Config, t.Dir, t.Timeout
		var next *Client
		var err error
		if i == 0 {
			next, err = dial(ctx, hop, o, depth)
		} else {
			hop.Jump = "none"
			var s *settings
			if s, err = resolve(hop, o.Log); err == nil {
				next, err = connect(ctx, s, o, via)
			}
		}
		if err != nil {
			if via != nil {
				_ = via.Close()
			}
			return nil, err
		}
		via = next
	}
	return via, nil
}

// parseJumps reads [user@]host[:port] or ssh://[user@]host[:port], by commas.
func parseJumps(list string) ([]Target, error) {
	var hops []Target
	for item := range strings.SplitSeq(list, ",") {
		bad := func(why string) error {
			return &ConfigError{Key: "ProxyJump", Msg: fmt.Sprintf("%q: %s", item, why), Fix: "write it as [user@]host[:port], several by commas"}
		}
		rest := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(item), "ssh://"), "/")
		var hop Target
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			hop.User, rest = rest[:i], rest[i+1:]
		}
		hop.Host = rest
		if host, port, err := net.SplitHostPort(rest); err == nil {
			n, err := strconv.Atoi(port)
			if err != nil || n < 1 || n > 65535 {
				return nil, bad("malformed port")
			}
			hop.Host, hop.Port = host, n
		} else if h, ok := strings.CutPrefix(rest, "["); ok && strings.HasSuffix(h, "]") {
			hop.Host = strings.TrimSuffix(h, "]")
		}
		if err := hop.validate(); err != nil {
			return nil, bad("not a host")
		}
		hops = append(hops, hop)
	}
	return hops, nil
}

// watchedConn remembers when something last came in and why reading ended.
type watchedConn struct {
	net.Conn
	received atomic.Int64 // bytes
	readErr  atomic.Pointer[error]
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	if err != nil {
		c.readErr.CompareAndSwap(nil, &err)
	}
	return n, err
}

// broken is the error that ended reading, nil while it goes on.
func (c *watchedConn) broken() error {
	if p := c.readErr.Load(); p != nil {
		return *p
	}
	return nil
}

// connect makes one connection, directly or through via, which then belongs to
// the client that is returned.
func connect(ctx context.Context, s *settings, o Options, via *Client) (*Client, error) {
	log := o.Log.With("host", s.host, "port", s.port)
	fail := func(kind UnreachableKind, err error) error {
		e := &UnreachableError{Kind: kind, Host: s.host, Port: s.port, Err: err}
		if via != nil {
			e.Via = via.HostPort()
		}
		return e
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.host, context.Cause(ctx))
	}
	dialCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	clock := newStopwatch(s.timeout, cancel)
	defer clock.stop()
	ended := func() error {
		if ctx.Err() != nil {
			return fmt.Errorf("connect to %s: %w", s.host, context.Cause(ctx))
		}
		if clock.stop() {
			return fail(UnreachableTimeout, fmt.Errorf("nothing in %v", s.timeout))
		}
		return nil
	}

	raw, err := dialTCP(dialCtx, s, via)
	if err != nil {
		if e := ended(); e != nil {
			return nil, e
		}
		var config *ConfigError
		if errors.As(err, &config) {
			return nil, err
		}
		return nil, fail(dialFailure(err), err)
	}
	conn := &watchedConn{Conn: raw}
	// Both a cancelled dial and a handshake out of time end by closing the connection.
	stop := context.AfterFunc(dialCtx, func() { conn.Close() })
	defer stop()

	var ask *asker
	if o.Prompt != nil && !s.batch {
		ask = &asker{ctx: dialCtx, p: o.Prompt, clock: clock}
	}
	checker, err := newHostChecker(s, ask, log)
	if err != nil {
		conn.Close()
		return nil, err
	}
	auth := newLogin(dialCtx, s, ask, clock, conn.broken)
	defer auth.close()
	sc, chans, reqs, err := ssh.NewClientConn(conn, net.JoinHostPort(s.host, strconv.Itoa(s.port)), &ssh.ClientConfig{
		Config:            s.algorithms,
		User:              s.user,
		AuthCallback:      auth.next,
		HostKeyCallback:   checker.check,
		HostKeyAlgorithms: checker.algorithms(),
		ClientVersion:     "SSH-2.0-bundlefs",
		BannerCallback: func(message string) error {
			log.Debug("banner of the node", "text", printable(message))
			return nil
		},
	})
	if err != nil {
		conn.Close()
		switch e := ended(); {
		case e != nil:
			return nil, e
		case checker.err != nil:
			return nil, checker.err
		case auth.started:
			return nil, auth.failed(err)
		}
		return nil, fail(UnreachableProtocol, err)
	}
	if !stop() {
		sc.Close()
		if e := ended(); e != nil {
			return nil, e
		}
		return nil, fail(UnreachableTimeout, nil)
	}
	log.Debug("connected", "user", s.user, "server", printable(string(sc.ServerVersion())))
	return newClient(ssh.NewClient(sc, chans, reqs), conn, s, via, log, nil), nil
}

func dialTCP(ctx context.Context, s *settings, via *Client) (net.Conn, error) {
	addr := net.JoinHostPort(s.host, strconv.Itoa(s.port))
	if via != nil {
		return via.ssh.DialContext(ctx, "tcp", addr)
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute}}
	if s.bind != "" {
		local, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.bind)
		if err != nil {
			return nil, notOurs(s.bind, err)
		}
		d.LocalAddr = &net.TCPAddr{IP: local[0].AsSlice(), Zone: local[0].Zone()}
	}
	conn, err := d.DialContext(ctx, s.family, addr)
	if s.bind != "" && errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil, notOurs(s.bind, err)
	}
	return conn, err
}

// notOurs is the error for a BindAddress that this machine does not have.
func notOurs(bind string, err error) error {
	return &ConfigError{Key: "BindAddress", Msg: bind + " is no address of this machine", Err: err, Fix: "name one of those that 'ip address' lists, or leave BindAddress out"}
}

// dialFailure finds out why a connection could not be made.
func dialFailure(err error) UnreachableKind {
	var dns *net.DNSError
	var open *ssh.OpenChannelError
	switch {
	case errors.As(err, &open):
		if open.Reason == ssh.Prohibited {
			return UnreachableJump
		}
		// The reason is words of the jump host's system; OpenSSH passes strerror on.
		switch msg := strings.ToLower(open.Message); {
		case strings.Contains(msg, "refused"):
			return UnreachableRefused
		case strings.Contains(msg, "no route"), strings.Contains(msg, "unreachable"):
			return UnreachableNoRoute
		case strings.Contains(msg, "timed out"):
			return UnreachableTimeout
		case strings.Contains(msg, "name"):
			return UnreachableName
		}
		return UnreachableOther
	case errors.As(err, &dns):
		return UnreachableName
	case errors.Is(err, syscall.ECONNREFUSED):
		return UnreachableRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return UnreachableNoRoute
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return UnreachableTimeout
	}
	return UnreachableOther
}
