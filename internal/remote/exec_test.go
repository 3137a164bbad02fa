package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestExitStatus(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	for _, test := range []struct {
		cmd, stdin, out, errOut string
		status                  remote.ExitStatus
	}{
		{cmd: "true"},
		{cmd: "exit 7", status: remote.ExitStatus{Code: 7}},
		{cmd: "exit 255", status: remote.ExitStatus{Code: 255}},
		{cmd: "echo out; echo err >&2; exit 3", out: "out\n", errOut: "err\n", status: remote.ExitStatus{Code: 3}},
		{cmd: "cat", stdin: "a line\n", out: "a line\n"},
		{cmd: "cat; echo end", out: "end\n"}, // without input: empty, not open
		{cmd: remote.Quote("printf", "%s", "it's $HOME `x`"), out: "it's $HOME `x`"},
		{cmd: "/nonexistent/program 2>/dev/null", status: remote.ExitStatus{Code: 127}},
	} {
		t.Run(test.cmd, func(t *testing.T) {
			var out, errOut bytes.Buffer
			var stdin io.Reader
			if test.stdin != "" {
				stdin = strings.NewReader(test.stdin)
			}
			p, err := c.Start(patient(t), test.cmd, stdin, &out, &errOut)
			if err != nil {
				t.Fatal(err)
			}
			status, err := p.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if *status != test.status || out.String() != test.out || errOut.String() != test.errOut {
				t.Errorf("got %v %q %q, want %v %q %q", *status, &out, &errOut, test.status, test.out, test.errOut)
			}
			if again, err := p.Wait(); err != nil || *again != *status {
				t.Errorf("the second Wait: %v, %v", again, err)
			}
		})
	}
}

// Under a forced command, which a node for an ordinary user has, a shell stands
// between and tells the signal as an exit code.
func TestKilledCommand(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	p, err := c.Start(patient(t), "kill -KILL $$", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait()
	if err != nil || *status != (remote.ExitStatus{Code: -1, Signal: "KILL"}) && *status != (remote.ExitStatus{Code: 128 + 9}) {
		t.Errorf("got %v, %v", status, err)
	}
}

func TestStartRefuses(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	for _, cmd := range []string{"", " ", "echo a\x00b"} {
		if _, err := c.Start(patient(t), cmd, nil, nil, nil); err == nil {
			t.Errorf("%q: it was started", cmd)
		}
	}
}

// Both sides wait for each other's line, so nothing may be held back.
func TestExecStreams(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p, err := c.Start(patient(t), `while read -r line; do echo "got $line"; done`, inR, outW, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		fmt.Fprintf(inW, "%d\n", i)
		line := make([]byte, len("got 0\n"))
		if _, err := io.ReadFull(outR, line); err != nil || string(line) != fmt.Sprintf("got %d\n", i) {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	inW.Close()
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestWaitDoesNotWaitForStdin(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	r, w := io.Pipe() // nobody writes: reading from it blocks
	defer w.Close()
	p, err := c.Start(patient(t), "exit 4", r, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait()
	if err != nil || status.Code != 4 {
		t.Errorf("got %v, %v", status, err)
	}
}

func TestBigStreams(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	const size = 32 << 20
	var same bytes.Buffer // one writer for both streams
	p, err := c.Start(patient(t), fmt.Sprintf("head -c %d /dev/zero; head -c %d /dev/zero >&2", size, size/4), nil, &same, &same)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if same.Len() != size+size/4 {
		t.Errorf("got %d bytes", same.Len())
	}
	in := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var out bytes.Buffer
	if p, err = c.Start(patient(t), "sha256sum", bytes.NewReader(in), &out, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil || !strings.HasPrefix(out.String(), fmt.Sprintf("%x", sha256.Sum256(in))) {
		t.Errorf("got %q, %v", &out, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestBrokenStreamsEndTheCommand(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	broken := errors.New("broken on purpose")
	endless, input := io.Pipe()
	defer input.Close()
	for name, start := range map[string]func() (*remote.Process, error){
		"stdin": func() (*remote.Process, error) {
			return c.Start(patient(t), "cat", failing{broken}, nil, nil)
		},
		"stdout": func() (*remote.Process, error) {
			return c.Start(patient(t), "echo x; exec cat", endless, failing{broken}, nil)
		},
	} {
		p, err := start()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); !errors.Is(err, broken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// lineWriter tells when the first line came.
type lineWriter struct{ line chan string }

func (w lineWriter) Write(p []byte) (int, error) {
	select {
	case w.line <- string(p):
	default:
	}
	return len(p), nil
}

// startWaiter runs a command that lasts until its input ends, and gives its pid.
// The input does not end by itself.
func startWaiter(t *testing.T, ctx context.Context, c *remote.Client) (*remote.Process, string) {
	t.Helper()
	r, input := io.Pipe()
	t.Cleanup(func() { input.Close() })
	w := lineWriter{make(chan string, 1)}
	p, err := c.Start(ctx, "echo $$; exec cat", r, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case pid := <-w.line:
		return p, strings.TrimSpace(pid)
	case <-time.After(patience):
		t.Fatal("the command did not start")
		return nil, ""
	}
}

func waitGone(t *testing.T, pid string) {
	t.Helper()
	eventually(t, "the end of process "+pid, func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

func TestContextEndsTheCommand(t *testing.T) {
	c := mustDial(t, testnode.Start(t).Target(), nil)
	ctx, cancel := context.WithCancelCause(patient(t))
	p, pid := startWaiter(t, ctx, c)
	why := errors.New("halted by the operator")
	cancel(why)
	if _, err := p.Wait(); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	waitGone(t, pid)
	if c.Err() != nil {
		t.Errorf("the connection ended as well: %v", c.Err())
	}
}

func TestLostConnectionIsNoExitCode(t *testing.T) {
	n := testnode.Start(t)
	c := mustDial(t, n.Target(), nil)
	p, _ := startWaiter(t, patient(t), c)
	n.Kill()
	_, err := p.Wait()
	var lost *remote.LostError
	if !errors.As(err, &lost) {
		t.Errorf("got %v, want a LostError", err)
	}
	waitDone(t, c)
	if _, err := c.Start(patient(t), "true", nil, nil, nil); !errors.As(err, &lost) {
		t.Errorf("start on a lost connection: %v", err)
	}
}

func TestCancelOnSilentLink(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	c := mustDial(t, through(t, n, link), nil)
	ctx, cancel := context.WithCancel(patient(t))
	p, _ := startWaiter(t, ctx, c)
	link.Drop()
	cancel()
	if _, err := p.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	if _, err := c.OpenSubsystem(ctx, "sftp"); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	short, cancel := context.WithTimeout(patient(t), 50*time.Millisecond)
	defer cancel()
	if _, err := c.SFTP(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("sftp: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !errors.Is(c.Err(), remote.ErrClosed) {
		t.Errorf("err: %v", c.Err())
	}
}
