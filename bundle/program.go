package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/control"
	"bundlefs/internal/lease"
)

// program is a mount program that was started. It mounts when it gets the token of the lock, by
// its standard input: in its arguments anybody could see it. While it waits it connects to the
// node, as far as that goes without asking anything, and ends without a trace if no token comes.
// So it can be started before it is known whether the lock is to be had.
type program struct {
	cmd      *exec.Cmd
	token    *os.File // the writing end of its standard input
	messages *os.File // what it prints
	ended    bool     // was waited for
}

// early starts the mount program for a bundle that is about to be opened; nil when that cannot be done.
func (b *Bundle) early(ctx context.Context) *program {
	st, ok := b.State()
	if !ok || st.Phase == PhaseRemoved {
		fresh, err := b.newState()
		if err != nil {
			return nil
		}
		st = *fresh
	}
	p, err := b.start(ctx, &st, "")
	if err != nil {
		b.log.Debug("the mount program does not start early", "error", err)
		return nil
	}
	return p
}

// start starts the mount program. It goes to the background by itself when the mount is ready, and
// may ask for passwords on the terminal from when it has the token until then. With a token that is
// there at once it does not try without asking first.
func (b *Bundle) start(ctx context.Context, st *State, token string) (*program, error) {
	p := &program{cmd: b.command(ctx, st)}
	// A file, not a pipe: nobody would have to wait for its other end.
	fd, err := unix.MemfdCreate("bundlefs-messages", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	p.messages = os.NewFile(uintptr(fd), "bundlefs-messages")
	input, output, err := os.Pipe()
	if err != nil {
		p.messages.Close()
		return nil, fmt.Errorf("mount: %w", err)
	}
	defer input.Close()
	p.token = output
	p.token.WriteString(token) // there is room for it in the pipe
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = input, p.messages, p.messages
	if err := p.cmd.Start(); err != nil {
		p.close()
		return nil, fmt.Errorf("mount: %w", err)
	}
	return p, nil
}

// command is what starts the mount program.
func (b *Bundle) command(ctx context.Context, st *State) *exec.Cmd {
	name, args := "/proc/self/exe", []string{"bundlefs"}
	if c := b.cfg.BundlefsCommand; len(c) > 0 {
		name, args = c[0], c
	}
	cmd := exec.CommandContext(ctx, name)
	cmd.Args = append(slices.Clone(args), BundlefsArgs(b.cfg.Target, b.cfg.Dir, b.place(st), st.mountOptions()...)...)
	if st.Spools != "" { // where its spool is, whatever the environment says today
		cmd.Env = append(os.Environ(), lease.SpoolsVariable+"="+st.Spools)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	return cmd
}

// fits tells whether the program was started as it would be now.
func (p *program) fits(cmd *exec.Cmd) bool {
	return p != nil && !p.ended && slices.Equal(p.cmd.Args, cmd.Args) && slices.Equal(p.cmd.Env, cmd.Env)
}

// wait waits for the end of what was started: the mount is ready, or there is none.
func (p *program) wait() error {
	p.token.Close()
	p.ended = true
	return p.cmd.Wait()
}

// drop ends a program that is not needed, and waits for that. It has no token, so there is nothing
// to be taken back.
func (p *program) drop() {
	if p == nil {
		return
	}
	if !p.ended {
		kill := time.AfterFunc(endTime, func() { p.cmd.Process.Kill() })
		defer kill.Stop()
		p.wait()
	}
	p.close()
}

func (p *program) close() {
	p.token.Close()
	p.messages.Close()
}

// runBundlefs mounts, by a program that was started early if it is the right one. An error of its
// has its words.
func (b *Bundle) runBundlefs(ctx context.Context, st *State, early *program) error {
	p, token := early, st.Record.Token+"\n"
	if early.fits(b.command(ctx, st)) {
		early.token.WriteString(token) // if it has ended already it says why
	} else {
		var err error
		if p, err = b.start(ctx, st, token); err != nil {
			return err
		}
		defer p.drop()
	}
	err := p.wait()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		// It may have got as far as mounting when it was told to end.
		if ours, _, merr := b.findMount(st); merr == nil && ours {
			err = errors.Join(err, b.detach(st))
		}
		return errors.Join(ctx.Err(), fmt.Errorf("mount %s: %w", b.place(st), err))
	}
	text, _ := io.ReadAll(io.LimitReader(io.NewSectionReader(p.messages, 0, 1<<16), 1<<16))
	said := mountFailure(b.place(st), err, text)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == control.ExitNoFUSE {
		return &noFUSEError{said}
	}
	return said
}

// noFUSEError is bundlefs's when the workstation does not let us mount.
type noFUSEError struct{ err error }

func (e *noFUSEError) Error() string { return "no FUSE here: " + e.err.Error() }
func (e *noFUSEError) Unwrap() error { return e.err }

// mountFailure makes an error of what bundlefs printed: "bundlefs: …" lines,
// and "bundlefs: hint: …" lines.
func mountFailure(mountpoint string, err error, text []byte) error {
	var msgs, hints []string
	for line := range bytes.Lines(text) {
		s := strings.TrimPrefix(clean(string(line)), "bundlefs: ")
		if hint, ok := strings.CutPrefix(s, "hint: "); ok {
			hints = append(hints, hint)
		} else if s != "" {
			msgs = append(msgs, s)
		}
	}
	if len(msgs) == 0 {
		return fmt.Errorf("mount %s: bundlefs: %w", mountpoint, err)
	}
	err = fmt.Errorf("mount %s: %s", mountpoint, strings.Join(msgs, "; "))
	if len(hints) > 0 {
		err = withHint(err, strings.Join(hints, "\n"))
	}
	return err
}
