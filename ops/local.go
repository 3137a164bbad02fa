package ops

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"bundlefs/internal/proc"
)

const (
	killGrace = time.Second            // between SIGTERM and SIGKILL
	linger    = 200 * time.Millisecond // how long output is awaited after the end of the command
	maxLine   = 64 << 10               // bytes; a longer line comes in pieces
)

// localCommand is a command on the workstation.
type localCommand struct {
	argv []string
	dir  string
	env  []string
	// stdin is what the command reads; nil is nothing.
	stdin []byte
	// events gets each line that the command writes to its descriptor 3; nil: there is none.
	events func(line []byte)
}

// runLocal runs a shell command on the workstation.
func runLocal(ctx context.Context, t *task, command, dir string, env []string) Result {
	state, err := t.runLocal(ctx, localCommand{argv: []string{"/bin/sh", "-c", command}, dir: dir, env: env})
	if state == nil {
		return resultOf(ctx, err)
	}
	code := state.ExitCode()
	if slices.Contains(t.step.OKCodes, code) {
		return Result{ExitCode: code}
	}
	r := failed("", "%v", err)
	if r.ExitCode = code; code >= 0 {
		r.Message = fmt.Sprintf("exit status %d", code)
	}
	return r
}

// runLocal runs a command on the workstation as the agent does on the node: in
// a session of its own, with its output streamed, killed with all that it started when
// ctx ends. Without a state it was not begun, or was stopped; with one, the
// error tells of an exit status that is not 0.
func (t *task) runLocal(ctx context.Context, c localCommand) (*os.ProcessState, error) {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	mark := stepMark + "=" + rand.Text()
	cmd.Dir, cmd.Env = c.dir, append(slices.Clone(c.env), mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var outputs []*output
	var given []*os.File // the command's ends, closed here when it has them
	var streams sync.WaitGroup
	defer streams.Wait()
	defer func() {
		for _, f := range outputs {
			f.Close()
		}
		for _, f := range given {
			f.Close()
		}
	}()
	read := func(take func(io.Reader)) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		out := &output{File: r}
		outputs, given = append(outputs, out), append(given, w)
		streams.Go(func() { take(out) })
		return w, nil
	}
	var err error
	if cmd.Stdout, err = read(func(r io.Reader) { t.copyLines(Stdout, r) }); err != nil {
		return nil, err
	}
	if cmd.Stderr, err = read(func(r io.Reader) { t.copyLines(Stderr, r) }); err != nil {
		return nil, err
	}
	if c.events != nil {
		w, err := read(func(r io.Reader) { copyEvents(c.events, r) })
		if err != nil {
			return nil, err
		}
		cmd.ExtraFiles = []*os.File{w}
	}
	var stdin *os.File
	if c.stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		cmd.Stdin, stdin, given = r, w, append(given, r)
		defer stdin.Close()
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %q in %s: %w", c.argv[len(c.argv)-1], c.dir, err)
	}
	for _, f := range given {
		f.Close()
	}
	given = nil
	if stdin != nil {
		streams.Go(func() {
			stdin.Write(c.stdin) // what the command does not read, it does not need
			stdin.Close()
		})
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		killAll(cmd.Process.Pid, mark)
	})
	// Waited for without reaping, so that the group's number stays its own until the killing is over.
	waitErr := awaitExit(cmd.Process.Pid)
	if !stop() {
		<-killed
	}
	err = errors.Join(waitErr, cmd.Wait())
	if stdin != nil {
		stdin.Close() // a child of the command may keep the other end
	}
	for _, f := range outputs {
		f.end()
	}
	streams.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return cmd.ProcessState, err
}

// maxEvent is how long the line of an event may be, in bytes.
const maxEvent = 512 << 10

// copyEvents hands lines on whole, until there are no more; one that is too long is dropped.
func copyEvents(take func([]byte), r io.Reader) {
	in := bufio.NewReaderSize(r, maxEvent)
	for skip := false; ; {
		line, err := in.ReadSlice('\n')
		if err == nil && !skip {
			take(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		skip = err != nil
	}
}

// stepMark is the environment variable, with a value of its own for each command, by which
// is found what the command started, also in a session of its own.
const stepMark = "_CONC_STEP"

// killAll ends a command's process group and all that the command started: SIGTERM, and
// SIGKILL for what does not end by that. It returns when all have ended, or cannot be
// ended even so (a process that hangs in the kernel).
func killAll(pid int, mark string) {
	var started []proc.Process
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		// Looked for before the signal: after it, they may descend from nobody that is known.
		started = append(started, startedBy(pid, mark)...)
		_ = syscall.Kill(-pid, signal)
		for _, p := range started {
			p.Signal(signal)
		}
		deadline := time.Now().Add(killGrace)
		for groupLives(pid) || len(proc.Living(started)) > 0 {
			if time.Now().After(deadline) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// startedBy gives what descends from a command, or has its mark.
func startedBy(pid int, mark string) []proc.Process {
	return append(proc.Below(pid), proc.Marked(mark)...)
}

// copyLines hands the lines of a command on until there are no more.
func (t *task) copyLines(stream Stream, r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			t.output(stream, []string{string(line)})
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// output is the reading end of a command's output. A child that outlives the
// command can keep the writing end open: after end, it is read until it is quiet.
type output struct {
	*os.File

	mu    sync.Mutex // guards what follows
	ended bool
	owed  int       // bytes that were waiting when the command ended and are not read yet
	limit time.Time // when to leave a child that is never quiet
}

// end says that the command has ended.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended, o.owed, o.limit = true, waiting(o.File), time.Now().Add(10*linger)
	o.SetReadDeadline(time.Now()) // wakes Read
}

// Read reads until the output has ended, or is quiet after the command has ended.
func (o *output) Read(p []byte) (int, error) {
	for {
		o.mu.Lock()
		ended := o.ended
		if ended {
			if o.owed <= 0 && time.Now().After(o.limit) {
				o.mu.Unlock()
				return 0, io.EOF
			}
			o.SetReadDeadline(time.Now().Add(linger))
		}
		o.mu.Unlock()
		n, err := o.File.Read(p)
		o.mu.Lock()
		if ended {
			o.owed -= n
		}
		late := o.ended && !ended // end came while reading
		if late {
			o.owed = waiting(o.File)
		}
		o.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case late && errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return 0, io.EOF
		}
	}
}
