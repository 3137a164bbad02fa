package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// endTime is how long a program may take to end before it is killed.
const endTime = 2 * time.Second

// TCP connects to an SFTP server that listens on an address. Nothing is encrypted.
func TCP(address string) Opener {
	return func(ctx context.Context) (io.ReadWriteCloser, error) {
		d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute}}
		return d.DialContext(ctx, "tcp", address)
	}
}

// Files reads from in and writes to out, which it owns. It can open one stream only.
func Files(in, out *os.File) Opener {
	var once sync.Once
	return func(context.Context) (io.ReadWriteCloser, error) {
		err := errors.New("standard input has ended, and cannot be opened again")
		var s io.ReadWriteCloser
		once.Do(func() { s, err = &files{in: in, out: out}, nil })
		return s, err
	}
}

type files struct{ in, out *os.File }

func (f *files) Read(p []byte) (int, error)  { return f.in.Read(p) }
func (f *files) Write(p []byte) (int, error) { return f.out.Write(p) }
func (f *files) Close() error                { return errors.Join(f.in.Close(), f.out.Close()) }

// Command starts a program for each stream, as argv says and without a shell, with env added to
// the environment. What it prints on standard error goes to the log, and its last line into the
// error if it fails. It ends with the stream.
func Command(argv, env []string, log *slog.Logger) Opener {
	return func(context.Context) (io.ReadWriteCloser, error) {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), env...)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", argv[0], err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", argv[0], err)
		}
		said, err := cmd.StderrPipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", argv[0], err)
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start %s: %w", argv[0], err)
		}
		p := &program{WriteCloser: in, out: out, cmd: cmd, ended: make(chan struct{})}
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			p.listen(said, log)
		}()
		go func() {
			state, err := cmd.Process.Wait() // not cmd.Wait, which closes what is still being read
			select {
			case <-heard:
			case <-time.After(endTime): // a process that it has left behind has its standard error
				said.Close()
				<-heard
			}
			said.Close()
			p.mu.Lock()
			if p.err = err; err == nil {
				p.err = fmt.Errorf("%s: %v", argv[0], state)
			}
			p.mu.Unlock()
			close(p.ended)
		}()
		return p, nil
	}
}

// program is a started program as a stream.
type program struct {
	io.WriteCloser // its standard input
	out            io.ReadCloser
	cmd            *exec.Cmd
	ended          chan struct{} // closed when it has ended and err is known
	closing        sync.Once

	mu       sync.Mutex // guards what follows
	lastLine string
	err      error
}

func (p *program) Read(b []byte) (int, error) { return p.out.Read(b) }

// listen passes on what the program prints on standard error.
func (p *program) listen(said io.Reader, log *slog.Logger) {
	in := bufio.NewReaderSize(said, 4096)
	for {
		line, _, err := in.ReadLine()
		if err != nil {
			return
		}
		if text := strings.TrimSpace(string(line)); text != "" {
			log.Info(p.cmd.Args[0], "says", text)
			p.mu.Lock()
			p.lastLine = text
			p.mu.Unlock()
		}
	}
}

// Why is how the program has ended, and what it said about that. It waits a moment for the
// end; nil if it goes on.
func (p *program) Why() error {
	select {
	case <-p.ended:
	case <-time.After(endTime):
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastLine != "" {
		return fmt.Errorf("%w: %s", p.err, p.lastLine)
	}
	return p.err
}

// Close ends the program.
func (p *program) Close() error {
	p.closing.Do(func() {
		p.WriteCloser.Close()
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(endTime):
			p.cmd.Process.Kill()
			<-p.ended
		}
		p.out.Close()
	})
	return nil
}
