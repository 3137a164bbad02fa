package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// ExitStatus is how a command ended.
type ExitStatus struct {
	Code   int    // 0 to 255; -1 when a signal ended it
	Signal string // without SIG, e.g. "TERM"; "" when it exited by itself
}

func (e ExitStatus) String() string {
	if e.Signal != "" {
		return "signal " + e.Signal
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Process is a command that runs on the node.
type Process struct {
	c    *Client
	ch   ssh.Channel
	out  []*gate
	done chan struct{}

	status *ExitStatus // valid when done is closed
	err    error       // valid when done is closed

	broken chan error // why the command must be ended; holds the first reason
}

// Start runs cmd, a line for the login shell of the user (see Quote), without a
// terminal. Standard input is stdin until its end, empty when nil; what comes
// out is written as it comes, and dropped where the writer is nil. When both
// writers are the same, it is written to by one goroutine at a time.
//
// When ctx ends, the command gets the signal TERM, its session is closed, and
// Wait returns the cause of ctx. A command that ignores TERM and the end of its
// standard input can live on. An error of a writer or of stdin ends it as well.
func (c *Client) Start(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) (*Process, error) {
	if err := c.checkCommand(cmd); err != nil {
		return nil, err
	}
	ch, reqs, err := c.session(ctx, "session", sessionRequest{"exec", struct{ Command string }{cmd}})
	if err != nil {
		return nil, err
	}
	return c.run(ctx, ch, reqs, stdin, stdout, stderr), nil
}

// maxOutput is how much Output takes of what a command prints, in bytes.
const maxOutput = 64 << 10

// Output runs cmd as Start does, and returns the beginning of what it prints, at most 64 KiB, however
// it ended. The error is that of Start, or of Wait.
func (c *Client) Output(ctx context.Context, cmd string) ([]byte, error) {
	out := &beginning{}
	p, err := c.Start(ctx, cmd, nil, out, nil)
	if err != nil {
		return nil, err
	}
	if _, err := p.Wait(); err != nil {
		return nil, err
	}
	return out.text, nil
}

// beginning keeps what is written first, up to maxOutput.
type beginning struct{ text []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxOutput-len(b.text))]...)
	return len(p), nil
}

// checkCommand refuses what cannot be run.
func (c *Client) checkCommand(cmd string) error {
	if strings.ContainsRune(cmd, 0) {
		return fmt.Errorf("run command on %s: the command has a NUL byte, which no argument can have", c.HostPort())
	}
	if strings.TrimSpace(cmd) == "" {
		return fmt.Errorf("run command on %s: the command is empty", c.HostPort())
	}
	return nil
}

// run looks after a command that was started on a channel.
func (c *Client) run(ctx context.Context, ch ssh.Channel, reqs <-chan *ssh.Request, stdin io.Reader, stdout, stderr io.Writer) *Process {
	p := &Process{c: c, ch: ch, done: make(chan struct{}), broken: make(chan error, 1)}
	stdoutGate := newGate(stdout)
	stderrGate := stdoutGate
	if !sameWriter(stdout, stderr) {
		stderrGate = newGate(stderr)
	}
	p.out = []*gate{stdoutGate, stderrGate}
	go p.feed(stdin)
	finished := make(chan *ExitStatus, 1)
	go func() {
		var streams sync.WaitGroup
		streams.Go(func() { p.drain(stdoutGate, ch) })
		streams.Go(func() { p.drain(stderrGate, ch.Stderr()) })
		status := exitStatus(reqs)
		streams.Wait()
		finished <- status
	}()
	go p.supervise(ctx, finished)
	return p
}

// supervise waits for the first of: the end of the command, the end of ctx, and
// an input or output that does not work.
func (p *Process) supervise(ctx context.Context, finished <-chan *ExitStatus) {
	defer close(p.done)
	select {
	case status := <-finished:
		p.status = status
		select {
		case p.err = <-p.broken:
			p.status = nil
			return
		default:
		}
		if status != nil {
			_ = p.ch.Close()
			return
		}
		if p.err = p.c.lost(io.EOF); p.err == nil {
			p.err = errors.New("the node closed the session without an exit code")
		}
	case <-ctx.Done():
		p.err = context.Cause(ctx)
		p.kill()
	case p.err = <-p.broken:
		p.kill()
	}
}

// kill ends the command without waiting for the node, which may not answer.
func (p *Process) kill() {
	for _, g := range p.out {
		g.shut()
	}
	go func() {
		_ = p.Signal("TERM")
		_ = p.ch.Close()
	}()
}

func (p *Process) fail(err error) {
	select {
	case p.broken <- err:
	default:
	}
}

// Wait waits until the command has ended and all its output is written. A
// command that ran has a status and no error, whatever its exit code. The error
// is a *LostError when the connection ended before.
func (p *Process) Wait() (*ExitStatus, error) {
	<-p.done
	if p.err != nil {
		return nil, fmt.Errorf("run command on %s: %w", p.c.HostPort(), p.err)
	}
	return p.status, nil
}

// Signal sends a signal, e.g. "TERM", to the command. The node may not support
// it (OpenSSH does since 7.9), and does not confirm.
func (p *Process) Signal(name string) error {
	name = strings.TrimPrefix(strings.ToUpper(name), "SIG")
	_, err := p.ch.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{name}))
	if err != nil {
		return fmt.Errorf("send signal %s to %s: %w", name, p.c.HostPort(), err)
	}
	return nil
}

// feed copies stdin until it ends. It is not waited for: reading can block for
// ever, and then ends with the reader.
func (p *Process) feed(stdin io.Reader) {
	if stdin != nil {
		buf := make([]byte, 32*1024)
		for {
			n, err := stdin.Read(buf)
			if n > 0 {
				_, werr := p.ch.Write(buf[:n])
				clear(buf[:n]) // it may have been a password
				if werr != nil {
					return // the command ended or does not read any more
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				// Closing the input now would look like its regular end.
				p.fail(fmt.Errorf("read its input: %w", err))
				return
			}
		}
	}
	_ = p.ch.CloseWrite()
}

// drain copies one stream of output to its writer.
func (p *Process) drain(g *gate, r io.Reader) {
	buf := make([]byte, 32*1024)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if werr := g.write(buf[:n]); werr != nil {
				p.fail(fmt.Errorf("write its output: %w", werr))
			}
		}
		if err != nil {
			return
		}
	}
}

// exitStatus reads the requests of a session until it is closed; nil when there
// was no status among them. See RFC 4254, 6.10.
func exitStatus(reqs <-chan *ssh.Request) *ExitStatus {
	var status *ExitStatus
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			if len(r.Payload) >= 4 {
				status = &ExitStatus{Code: int(binary.BigEndian.Uint32(r.Payload))}
			}
		case "exit-signal":
			var msg struct {
				Signal     string
				CoreDumped bool
				Error      string
				Lang       string
			}
			if ssh.Unmarshal(r.Payload, &msg) == nil {
				status = &ExitStatus{Code: -1, Signal: printable(msg.Signal)}
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	return status
}

// gate is a writer that can be shut: after that nothing is written any more, so
// its owner may use what was written while the node is still sending.
type gate struct {
	mu   sync.Mutex // guards w; held while writing
	w    io.Writer
	open bool
}

func newGate(w io.Writer) *gate {
	if w == nil {
		w = io.Discard
	}
	return &gate{w: w, open: true}
}

func (g *gate) write(p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return nil
	}
	_, err := g.w.Write(p)
	if err != nil {
		g.open = false
	}
	return err
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
}

// sameWriter compares without panicking on types that cannot be compared.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a != nil && a == b
}
