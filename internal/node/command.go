package node

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// signals are the names of RFC 4254, 6.10.
var signals = map[string]unix.Signal{
	"ABRT": unix.SIGABRT, "ALRM": unix.SIGALRM, "FPE": unix.SIGFPE, "HUP": unix.SIGHUP,
	"ILL": unix.SIGILL, "INT": unix.SIGINT, "KILL": unix.SIGKILL, "PIPE": unix.SIGPIPE,
	"QUIT": unix.SIGQUIT, "SEGV": unix.SIGSEGV, "TERM": unix.SIGTERM, "USR1": unix.SIGUSR1,
	"USR2": unix.SIGUSR2,
}

// command is a command that runs on the node.
type command struct {
	channel ssh.Channel
	cmd     *exec.Cmd
	stdin   *os.File // our ends of its pipes
	stdout  *os.File
	stderr  *os.File

	mu     sync.Mutex // guards what follows
	reaped bool       // its number may be another's
}

// startCommand starts a command for a channel; the empty one is a shell that reads its commands.
func (n *Node) startCommand(channel ssh.Channel, line string) (*command, error) {
	c := &command{channel: channel, cmd: exec.Command("/bin/sh", "-c", line)}
	if line == "" {
		c.cmd = exec.Command("/bin/sh")
	}
	c.cmd.Dir = n.Home
	c.cmd.Env = []string{
		"HOME=" + n.Home,
		"USER=" + n.User,
		"LOGNAME=" + n.User,
		"SHELL=/bin/sh",
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
		"LANG=C.UTF-8",
		n.mark,
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a process group of its own, as sshd does
	var theirs []*os.File
	closeAll := func(files ...*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	pipe := func(ours **os.File, input bool) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if !input {
			r, w = w, r
		}
		*ours = w
		theirs = append(theirs, r)
		return r, nil
	}
	in, err1 := pipe(&c.stdin, true)
	out, err2 := pipe(&c.stdout, false)
	diag, err3 := pipe(&c.stderr, false)
	err := errors.Join(err1, err2, err3)
	if err == nil {
		c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = in, out, diag
		err = c.cmd.Start()
	}
	closeAll(theirs...)
	if err != nil {
		closeAll(c.stdin, c.stdout, c.stderr)
		return nil, err
	}
	return c, nil
}

// serve passes input and output on, tells the client how the command ended, and closes the
// channel after the last of its output. When the connection is gone, the command sees the ends of
// its pipes, and has a moment to end before it is killed; what it left in the background lives on
// until the node is closed.
func (c *command) serve(gone <-chan struct{}) {
	var input, output sync.WaitGroup
	input.Go(func() {
		_, _ = io.Copy(c.stdin, c.channel)
		c.stdin.Close()
	})
	output.Go(func() { _, _ = io.Copy(c.channel, c.stdout) })
	output.Go(func() { _, _ = io.Copy(c.channel.Stderr(), c.stderr) })
	exited := make(chan struct{})
	drained := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		c.wait()
		close(exited)
	})
	waiting.Go(func() {
		output.Wait()
		close(drained)
	})
	select {
	case <-exited:
		c.report()
	case <-gone:
	}
	select {
	case <-drained: // who holds the output open holds the session open
	case <-gone:
	}
	_ = c.channel.CloseWrite()
	_ = c.channel.Close()
	c.stdin.Close()
	c.stdout.Close()
	c.stderr.Close()
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case <-exited:
	case <-patience.C:
		c.kill(unix.SIGKILL)
	}
	waiting.Wait()
	input.Wait()
}

// wait waits until the command has ended, and reaps it.
func (c *command) wait() {
	// The group is signalled by the command's number, so that must not be free before.
	for {
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.cmd.Wait()
	c.reaped = true
}

// signal sends a signal to the command's process group, by its name in RFC 4254.
func (c *command) signal(name string) bool {
	sig, ok := signals[name]
	return ok && c.kill(sig)
}

func (c *command) kill(sig unix.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.reaped && unix.Kill(-c.cmd.Process.Pid, sig) == nil
}

// report tells the client how the command ended.
func (c *command) report() {
	status := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		code := struct{ Code uint32 }{uint32(status.ExitStatus())}
		_, _ = c.channel.SendRequest("exit-status", false, ssh.Marshal(&code))
		return
	}
	end := struct {
		Signal   string
		Core     bool
		Message  string
		Language string
	}{Signal: strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG"), Core: status.CoreDump()}
	_, _ = c.channel.SendRequest("exit-signal", false, ssh.Marshal(&end))
}
