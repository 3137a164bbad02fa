package remote

import (
	"context"
	"io"

	"golang.org/x/crypto/ssh"
)

// Window is the size of a terminal, in characters.
type Window struct{ Rows, Columns int }

// Terminal is the terminal that a command on the node gets.
type Terminal struct {
	Type    string // what TERM is on the node, e.g. "xterm"
	Window  Window
	Resized <-chan Window // the sizes that follow; nil: it stays as it is
}

// StartOn is Start with a terminal on the node: what the command writes comes out of
// stdout, and control characters in stdin have their effect there. See RFC 4254, 6.2.
func (c *Client) StartOn(ctx context.Context, t Terminal, cmd string, stdin io.Reader, stdout io.Writer) (*Process, error) {
	if err := c.checkCommand(cmd); err != nil {
		return nil, err
	}
	ch, reqs, err := c.session(ctx, "terminal", sessionRequest{"pty-req", struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{t.Type, uint32(t.Window.Columns), uint32(t.Window.Rows), 0, 0, "\x00"}},
		sessionRequest{"exec", struct{ Command string }{cmd}})
	if err != nil {
		return nil, err
	}
	p := c.run(ctx, ch, reqs, stdin, stdout, nil)
	if t.Resized != nil {
		go p.resize(t.Resized)
	}
	return p, nil
}

// resize tells the node the sizes until the command has ended.
func (p *Process) resize(sizes <-chan Window) {
	for {
		select {
		case w := <-sizes:
			_, _ = p.ch.SendRequest("window-change", false, ssh.Marshal(struct{ Columns, Rows, Width, Height uint32 }{uint32(w.Columns), uint32(w.Rows), 0, 0}))
		case <-p.done:
			return
		}
	}
}
