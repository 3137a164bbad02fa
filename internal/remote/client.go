package remote

import (
	"context"
	"errors"
	"io"

	"github.com/pkg/sftp"
)

// Client is an SSH connection to a node.
type Client struct{ done chan struct{} }

var errNot = errors.New("not built yet")

// Dial connects.
func Dial(ctx context.Context, t Target, o Options) (*Client, error) { return nil, errNot }

// OpenSubsystem opens a session.
func (c *Client) OpenSubsystem(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	return nil, errNot
}

// SFTP opens a session.
func (c *Client) SFTP(ctx context.Context, opts ...sftp.ClientOption) (*sftp.Client, error) {
	return nil, errNot
}

// Start runs a command.
func (c *Client) Start(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) (*Process, error) {
	return nil, errNot
}

// Done closes when the connection ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why.
func (c *Client) Err() error { return errNot }

// Close ends it.
func (c *Client) Close() error { return errNot }

// User on the node.
func (c *Client) User() string { return "" }

// HostPort of the node.
func (c *Client) HostPort() string { return "" }

// Process is a command that runs on the node.
type Process struct{}

// ExitStatus is how a command ended.
type ExitStatus struct {
	Code   int    // 0–255, or -1 when a signal ended it
	Signal string // e.g. "TERM"; "" when it exited
}

// Wait waits.
func (p *Process) Wait() (*ExitStatus, error) { return nil, errNot }

// Signal sends a signal.
func (p *Process) Signal(name string) error { return errNot }

// TerminalPrompter asks on /dev/tty.
func TerminalPrompter() Prompter { return nil }
