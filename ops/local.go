package ops

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	killGrace = time.Second            // between SIGTERM and SIGKILL
	linger    = 200 * time.Millisecond // how long output is awaited after the end of the command
	maxLine   = 64 << 10               // bytes; a longer line comes in pieces
)

// runLocal runs a shell command on the workstation, as the agent does on the
// node: in a process group of its own, with its output streamed, killed as a
// group when ctx ends.
func runLocal(ctx context.Context, t *task, command, dir string, env []string) Result {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var outputs []*output
	var streams sync.WaitGroup
	defer streams.Wait()
	defer func() {
		for _, f := range outputs {
			f.Close()
		}
	}()
	for _, p := range []struct {
		to     *io.Writer
		stream Stream
	}{{&cmd.Stdout, Stdout}, {&cmd.Stderr, Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return resultOf(ctx, err)
		}
		defer w.Close()
		*p.to = w
		out := &output{File: r}
		outputs = append(outputs, out)
		streams.Go(func() { t.copyLines(p.stream, out) })
	}
	if err := cmd.Start(); err != nil {
		return resultOf(ctx, fmt.Errorf("run %q in %s: %w", command, dir, err))
	}
	for _, w := range []io.Writer{cmd.Stdout, cmd.Stderr} {
		w.(*os.File).Close()
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		killGroup(cmd.Process.Pid)
	})
	// Waited for without reaping, so that the group's number stays its own until the killing is over.
	waitErr := awaitExit(cmd.Process.Pid)
	if !stop() {
		<-killed
	}
	err := errors.Join(waitErr, cmd.Wait())
	for _, f := range outputs {
		f.end()
	}
	streams.Wait()
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	code := cmd.ProcessState.ExitCode()
	if slices.Contains(t.step.OKCodes, code) {
		return Result{ExitCode: code}
	}
	r := failed("", "%v", err)
	if r.ExitCode = code; code >= 0 {
		r.Message = fmt.Sprintf("exit status %d", code)
	}
	return r
}

// killGroup ends a process group: SIGTERM, and SIGKILL when it does not end by
// that. It returns when the group has ended, or cannot be ended even so (a
// process that hangs in the kernel).
func killGroup(pid int) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = syscall.Kill(-pid, signal)
		deadline := time.Now().Add(killGrace)
		for groupLives(pid) {
			if time.Now().After(deadline) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
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
