package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// endPatience is how long the reasons for the end of a server may take to come after the end.
const endPatience = time.Second

// subsystem is a session that carries a protocol of its own.
type subsystem struct {
	ssh.Channel
	client *Client
	what   string // e.g. "subsystem sftp"
	end    *serverEnd
	begun  bool // something was read; used by the one that reads
	once   sync.Once
}

// serverEnd is what the node says when a server ends.
type serverEnd struct {
	told   chan struct{} // closed when there is no more to come
	line   string        // the last one of standard error
	status string        // how it ended, "" if that is not known
}

// watch reads standard error, which would fill the window of the session, and the requests.
func (e *serverEnd) watch(stderr io.Reader, reqs <-chan *ssh.Request) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		in := bufio.NewReaderSize(stderr, 1024)
		for {
			line, _, err := in.ReadLine()
			if err != nil {
				return
			}
			if len(line) > 0 {
				e.line = printable(string(line))
			}
		}
	}()
	for r := range reqs {
		if r.Type == "exit-status" && len(r.Payload) >= 4 {
			e.status = fmt.Sprintf("exit status %d", binary.BigEndian.Uint32(r.Payload))
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	<-heard
	close(e.told)
}

// why is what the node says about an end at once, "" for nothing. It waits a moment for it.
func (e *serverEnd) why() string {
	t := time.NewTimer(endPatience)
	defer t.Stop()
	select {
	case <-e.told:
	case <-t.C:
		return ""
	}
	if e.line != "" && e.status != "" {
		return e.status + ": " + e.line
	}
	return e.status + e.line
}

// Read finds out whether what comes is SFTP: its first packet is short, so that the first byte of
// the length is zero, which no text begins with.
func (s *subsystem) Read(p []byte) (int, error) {
	n, err := s.Channel.Read(p)
	if s.begun {
		return n, err
	}
	switch {
	case n > 0 && p[0] != 0:
		return 0, s.failed(&NoiseError{printable(string(p[:min(n, 200)]))})
	case n > 0:
		s.begun = true
	case errors.Is(err, io.EOF):
		why := s.end.why()
		if why == "" && s.client.lost(err) != nil {
			return 0, err // the connection has ended
		}
		return 0, s.failed(errors.New(strings.TrimSuffix("it ended at once: "+why, ": ")))
	}
	return n, err
}

func (s *subsystem) failed(err error) error {
	return &SessionError{Host: s.client.HostPort(), What: s.what, Err: err}
}

// Close ends the session: the node's program sees the end of its input, and
// reading here ends when the node has confirmed.
func (s *subsystem) Close() error {
	var err error
	s.once.Do(func() {
		if err = s.Channel.Close(); errors.Is(err, io.EOF) {
			err = nil // the node was first
		}
	})
	return err
}

// OpenSubsystem opens a session with a subsystem of the node's sshd, e.g. "sftp".
// Closing what it returns ends the session. ctx is for the opening only. It
// fails with *SessionError when the node refuses, *LostError when the connection
// ended, or the cause of ctx. Reading from one that speaks no SFTP, or ends before it has
// said anything, fails with *SessionError, too.
func (c *Client) OpenSubsystem(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	return c.openProtocol(ctx, "subsystem "+name, "subsystem", name)
}

// OpenCommand is as OpenSubsystem, with an SFTP server as a command that the node's shell runs.
func (c *Client) OpenCommand(ctx context.Context, command string) (io.ReadWriteCloser, error) {
	return c.openProtocol(ctx, "command "+command, "exec", command)
}

func (c *Client) openProtocol(ctx context.Context, what, request, name string) (io.ReadWriteCloser, error) {
	ch, reqs, err := c.session(ctx, what, sessionRequest{request, struct{ Name string }{name}})
	if err != nil {
		return nil, err
	}
	s := &subsystem{Channel: ch, client: c, what: what, end: &serverEnd{told: make(chan struct{})}}
	go s.end.watch(ch.Stderr(), reqs)
	return s, nil
}
