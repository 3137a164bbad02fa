package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
	"bundlefs/ops"
)

func newShellCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "shell [NODE] [-- COMMAND…]",
		Short: "a shell on the node in the bundle, with the venv on PATH",
		Long: `Shell continues by hand: it opens a shell on the node, in the bundle, with the
virtual environment first on PATH and the attributes in the environment, as a run
step has them. With a COMMAND, it runs that, its words as they are, and ends with its
exit code (128 and the signal's number, if one ended it); a line for a shell is
written as sh -c 'LINE'. It gets a terminal when conc has one. What was written into
the mount is on the node before, and what was done there shows in the mount after.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args, command = args[:at], args[at:]
			}
			if len(args) > 1 {
				return usagef("a command comes after --", "one node at a time")
			}
			sel, err := a.nodesOrOpen(args)
			if err != nil {
				return err
			}
			if len(sel.nodes) != 1 {
				return usagef("name one of "+fmt.Sprint(nodeNames(sel.nodes)), "one node at a time")
			}
			s, err := a.session(sel, sel.nodes[0])
			if err != nil {
				return err
			}
			defer s.close()
			if !s.bundle.IsOpen() {
				return &hintedError{fmt.Errorf("%s: bundle %s: %w", s.node.Name, s.bundle.Dir(), bundle.ErrNotOpen), "open it first: conc open " + s.node.Name}
			}
			code, err := s.shell(cmd.Context(), command)
			if err == nil && code != 0 {
				return &shellError{code}
			}
			return err
		},
	}
}

// shellError is that what ran in the shell ended with a code, which is conc's, too.
type shellError struct{ code int }

func (e *shellError) Error() string { return fmt.Sprintf("it ended with exit code %d", e.code) }

// shell runs a command on the node, or the user's shell, and gives its exit code.
func (s *session) shell(ctx context.Context, command []string) (int, error) {
	env := s.env()
	leave, err := ops.Enter(ctx, env)
	if err != nil {
		return 0, err
	}
	defer leave()
	client, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	line := ops.ShellLine(env, command)
	in, _ := s.app.stdin.(*os.File)
	out, _ := s.app.ui.data.(*os.File)
	var process *remote.Process
	if in != nil && out != nil && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd())) {
		input, restore, err := rawTerminal(in)
		if err != nil {
			return 0, fmt.Errorf("shell: %w", err)
		}
		defer restore()
		sizes, end := windowSizes(out)
		defer end()
		t := remote.Terminal{Type: os.Getenv("TERM"), Window: windowSize(out), Resized: sizes}
		if process, err = client.StartOn(ctx, t, line, input, out); err != nil {
			return 0, err
		}
	} else if process, err = client.Start(ctx, line, s.app.stdin, s.app.ui.data, s.app.ui.messages); err != nil {
		return 0, err
	}
	status, err := process.Wait()
	if err != nil || status.Code != 0 { // whoever breaks the lock ends the shell
		if lost := ops.LostUnder(ctx, env); lost != nil {
			return 0, lost
		}
	}
	switch {
	case err != nil:
		return 0, err
	case status.Signal != "":
		return 128 + signalNumber(status.Signal), nil
	}
	return status.Code, nil
}

// rawTerminal hands keys on as they are, until restore; reading ends with that.
func rawTerminal(in *os.File) (io.Reader, func(), error) {
	// A descriptor of its own under the poller, so that a read can be ended and takes nothing more.
	tty, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", in.Fd()), os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		tty.Close()
		return nil, nil, err
	}
	return tty, func() {
		tty.Close()
		_ = term.Restore(int(in.Fd()), old)
	}, nil
}

func windowSize(out *os.File) remote.Window {
	columns, rows, err := term.GetSize(int(out.Fd()))
	if err != nil {
		return remote.Window{Rows: 24, Columns: 80}
	}
	return remote.Window{Rows: rows, Columns: columns}
}

// windowSizes tells the terminal's sizes as they change, until end.
func windowSizes(out *os.File) (<-chan remote.Window, func()) {
	signals, sizes, done := make(chan os.Signal, 1), make(chan remote.Window), make(chan struct{})
	signal.Notify(signals, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-signals:
				select {
				case sizes <- windowSize(out):
				case <-done:
					return
				}
			case <-done:
				return
			}
		}
	}()
	return sizes, func() {
		signal.Stop(signals)
		close(done)
	}
}

// signalNumber is that of a signal as SSH names it; 0 for an unknown one.
func signalNumber(name string) int {
	return map[string]int{"ABRT": 6, "ALRM": 14, "FPE": 8, "HUP": 1, "ILL": 4, "INT": 2, "KILL": 9, "PIPE": 13, "QUIT": 3, "SEGV": 11, "TERM": 15, "USR1": 10, "USR2": 12}[name]
}
