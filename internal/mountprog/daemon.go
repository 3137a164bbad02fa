package mountprog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"bundlefs/internal/coarse"
)

// readyEnv tells a child by which descriptor to say that the mount is ready.
const readyEnv = "BUNDLEFS_READY_FD"

var readyWord = []byte("READY\n")

// inheritedReady is the pipe to the parent, or nil in a process that is no child.
func inheritedReady() (*os.File, error) {
	v, ok := os.LookupEnv(readyEnv)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(readyEnv)
	fd, err := strconv.Atoi(v)
	var st unix.Stat_t
	if err != nil || fd < 3 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fail("unset "+readyEnv, "%s=%s is not a pipe", readyEnv, v)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "ready"), nil
}

// startChild runs the same program with the same arguments, and returns when that has mounted
// or failed.
func startChild(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, say *messages) int {
	r, w, err := os.Pipe()
	if err != nil {
		return say.failure(fmt.Errorf("start the mount process: %w", err))
	}
	defer r.Close()
	// The file that runs, even when another build has been put in its place.
	child := exec.Command("/proc/self/exe")
	child.Args = append([]string{"bundlefs"}, args...)
	child.Env = append(os.Environ(), readyEnv+"=3")
	child.ExtraFiles = []*os.File{w}
	if f, ok := stdin.(*os.File); ok {
		child.Stdin = f
	}
	child.Stdout, child.Stderr = stdout, stderr

	signals := notify()
	defer signal.Stop(signals)
	err = coarse.Start(child.Start)
	w.Close()
	if err != nil {
		return say.failure(fmt.Errorf("start the mount process: %w", err))
	}
	said := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(io.LimitReader(r, int64(len(readyWord))))
		said <- all
	}()
	done := ctx.Done()
	for {
		select {
		case s := <-signals:
			child.Process.Signal(s)
		case <-done:
			child.Process.Signal(syscall.SIGTERM)
			done = nil
		case word := <-said:
			if bytes.Equal(word, readyWord) {
				child.Process.Release()
				return ExitOK
			}
			return childFailed(child.Wait(), say)
		}
	}
}

// childFailed is the exit code for a child that ended before the mount was ready. It has
// printed why, unless it was killed.
func childFailed(err error, say *messages) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return say.failure(errors.New("the mount process ended before the mount was ready"))
	}
	if code := exit.ExitCode(); code > 0 {
		return code
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && slices.Contains(endSignals, os.Signal(status.Signal())) {
		return say.failure(errInterrupted)
	}
	return say.failure(fail("look for the cause in the log of the system: it kills what takes too much memory", "the mount process ended before the mount was ready: %w", err))
}

// endSignals end a mount.
var endSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}

// notify delivers the signals that end a mount, but not those that the caller ignores (nohup).
func notify() chan os.Signal {
	signals := make(chan os.Signal, 4)
	for _, s := range endSignals {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// detach leaves the terminal and tells the parent that the mount is ready. When the parent has
// gone meanwhile, nobody knows of the mount, and it is an error.
func detach(ready *os.File, log *logger) error {
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("leave the terminal: setsid: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("leave the folder: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("leave the terminal: %w", err)
	}
	defer null.Close()
	log.leave()
	stderr := null
	if log.file != nil {
		stderr = log.file // where the runtime reports a crash
	}
	for fd, f := range []*os.File{null, null, stderr} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("leave the terminal: dup: %w", err)
		}
	}
	if _, err := ready.Write(readyWord); err != nil {
		return fmt.Errorf("tell that the mount is ready: %w", err)
	}
	return ready.Close()
}
