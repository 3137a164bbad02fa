package mountprog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/remote"
	"bundlefs/internal/transport"

	"golang.org/x/sys/unix"
)

// Keepalives of the OpenSSH client, unless options say otherwise: those that package remote
// has. Without them a link that is gone would not be noticed.
var sshAlive = [][2]string{{"ServerAliveInterval", "15"}, {"ServerAliveCountMax", "3"}}

// dialer is what makes the connection, and again after each loss.
func (m *mountConfig) dialer(prompts *memory, log *slog.Logger) (func(ctx context.Context) (fs.Conn, error), error) {
	var open transport.Opener
	switch {
	case m.sshCommand != nil:
		open = transport.Command(m.sshArgs(), nil, log)
	case m.directPort != 0:
		open = transport.TCP(net.JoinHostPort(m.source.host, strconv.Itoa(m.directPort)))
	case m.passive:
		in, out, err := takeStandard()
		if err != nil {
			return nil, err
		}
		open = transport.Files(in, out)
		first := true // dialled by one at a time
		return func(ctx context.Context) (fs.Conn, error) {
			if !first {
				m.inputEnded.Do(func() { close(m.ended) })
				return nil, errInputEnded
			}
			first = false
			return dialTransport(ctx, m, open)
		}, nil
	default:
		return func(ctx context.Context) (fs.Conn, error) {
			c, err := remote.Dial(ctx, m.target, remote.Options{Prompt: prompts.prompter(), Log: log})
			if err != nil {
				return nil, err // not c, which would be an interface that is not nil
			}
			shared, err := m.lender.share(c, m.exclusive != "") // conc asks for it soon
			if err != nil {
				return nil, err
			}
			if m.sftpServer != "" {
				return &chosenServer{shared, m.sftpServer}, nil
			}
			return shared, nil
		}, nil
	}
	return func(ctx context.Context) (fs.Conn, error) { return dialTransport(ctx, m, open) }, nil
}

var errInputEnded = errors.New("standard input has ended, and with it the server")

func dialTransport(ctx context.Context, m *mountConfig, open transport.Opener) (fs.Conn, error) {
	limit := m.greetingLimit()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: the SFTP server has not greeted in %v", context.DeadlineExceeded, limit))
	defer cancel()
	c, err := transport.Dial(ctx, transport.Options{Open: open, Streams: m.sessions, AliveLimit: m.aliveLimit()})
	if err == nil {
		return c, nil
	}
	err = fmt.Errorf("connect to %s: %w", m.source.text, err)
	switch {
	case m.sshCommand != nil:
		return nil, fail("try it by hand: "+remote.Quote(m.sshArgs()...), "%w", err)
	case m.directPort != 0:
		return nil, fail(fmt.Sprintf("does an SFTP server, and not an sshd, listen at port %d?", m.directPort), "%w", err)
	}
	return nil, fail("an SFTP server has to be at the other end of standard input and output: sftp-server, for instance by dpipe", "%w", err)
}

// greetingLimit is how long a server may take to greet: as long as a request waits. A program may ask
// the user for a password first, for which sshd gives two minutes (LoginGraceTime).
func (m *mountConfig) greetingLimit() time.Duration {
	switch {
	case m.sshCommand != nil:
		return 2 * time.Minute
	case m.timeout != nil && *m.timeout > 0:
		return max(*m.timeout, 2*time.Second)
	}
	return 30 * time.Second
}

// sshArgs is the OpenSSH client with its arguments.
func (m *mountConfig) sshArgs() []string {
	argv := append(slices.Clone(m.sshCommand), "-x", "-a", "-oClearAllForwardings=yes")
	if m.target.Config != "" {
		argv = append(argv, "-F", m.target.Config)
	}
	if m.target.Port != 0 {
		argv = append(argv, fmt.Sprintf("-oPort=%d", m.target.Port))
	}
	if m.compression != "" {
		argv = append(argv, "-oCompression="+m.compression)
	}
	for _, o := range m.sshOptions {
		argv = append(argv, "-o"+o[0]+"="+o[1])
	}
	for _, o := range sshAlive { // of a word that is given twice the first counts
		argv = append(argv, "-o"+o[0]+"="+o[1])
	}
	host := m.source.host
	if m.source.user != "" {
		host = m.source.user + "@" + host
	}
	argv = append(argv, host)
	switch {
	case m.sftpServer == "":
		return append(argv, "-s", "sftp")
	case strings.Contains(m.sftpServer, "/"):
		return append(argv, m.sftpServer)
	}
	return append(argv, "-s", m.sftpServer)
}

// aliveLimit is how long the server may be silent, where package remote does not connect:
// what the words of ssh_config say that are given, or else the OpenSSH client is given.
func (m *mountConfig) aliveLimit() time.Duration {
	given := map[string]string{}
	for _, o := range slices.Backward(slices.Concat(m.sshOptions, sshAlive)) { // the first counts
		given[o[0]] = o[1]
	}
	every := given["ServerAliveInterval"]
	if _, err := strconv.Atoi(every); err == nil {
		every += "s"
	}
	interval, err := time.ParseDuration(every)
	count, cerr := strconv.Atoi(given["ServerAliveCountMax"])
	if err != nil || cerr != nil {
		return 45 * time.Second
	}
	return interval * time.Duration(count)
}

// chosenServer is a connection on which another SFTP server is used than the subsystem sftp.
type chosenServer struct {
	*remote.Shared
	server string
}

// OpenSubsystem implements fs.Conn.
func (c *chosenServer) OpenSubsystem(ctx context.Context, _ string) (io.ReadWriteCloser, error) {
	if strings.Contains(c.server, "/") {
		return c.Shared.OpenCommand(ctx, c.server)
	}
	return c.Shared.OpenSubsystem(ctx, c.server)
}

// takeStandard takes standard input and output for passive, so that nothing else writes there.
func takeStandard() (in, out *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	var taken [2]*os.File
	for fd := range taken {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			err = unix.SetNonblock(own, true) // so that closing it ends a read that waits
		}
		if err == nil {
			err = unix.Dup3(int(null.Fd()), fd, 0)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("take standard input and output: %w", err)
		}
		taken[fd] = os.NewFile(uintptr(own), "standard input and output")
	}
	return taken[0], taken[1], nil
}
