package mountprog

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/testnode"
	"bundlefs/internal/testterm"
)

// awaiting starts bundlefs, which gets the token later, and waits until it connects.
func (b *bench) awaiting(l *testnode.Link, tty *os.File) (*process, io.WriteCloser) {
	b.t.Helper()
	before := l.Counters().Connections
	p := &process{b: b, cmd: b.command("bundlefs", b.exclusive(l, inputToken)...)}
	input, err := p.cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if tty != nil {
		p.cmd.Stdout, p.cmd.Stderr = tty, tty
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	} else {
		p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out // which exec takes for one writer
	}
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	await(b.t, "it connects", func() bool { return l.Counters().Connections > before })
	return p, input
}

// TestTokenFromInput: the connection that was made before the token came is the mount's.
func TestTokenFromInput(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		b, l, _ := newExclusiveBench(t, b.uid)
		p, input := b.awaiting(l, nil)
		if m := b.find(); m != nil {
			t.Errorf("mounted without a token: %+v", m)
		}
		fmt.Fprintln(input, "ours")
		if code := p.wait(); code != ExitOK {
			t.Fatalf("exit code %d: %s", code, p.out.String())
		}
		if n := l.Counters().Connections; n != 1 {
			t.Errorf("%d connections", n)
		}
		pid := b.status().PID
		b.must("sh", "-c", `echo new >"$1/new"`, "sh", b.mountpoint)
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(pid)
	})
}

// TestNoToken: what waits for a token ends when none comes, or at a signal, and leaves nothing.
func TestNoToken(t *testing.T) {
	b, l, _ := newExclusiveBench(t, os.Getuid())
	b.fails("standard input has no token", "first line", "bundlefs", b.exclusive(l, inputToken)...) // which is /dev/null
	for want, end := range map[int]func(p *process, input io.Closer){
		ExitFailed:      func(_ *process, input io.Closer) { input.Close() },
		ExitInterrupted: func(p *process, _ io.Closer) { p.signal(syscall.SIGINT) },
	} {
		p, input := b.awaiting(l, nil)
		end(p, input)
		if code := p.wait(); code != want {
			t.Errorf("exit code %d, want %d: %s", code, want, p.out.String())
		}
		input.Close()
		b.clean()
		if left := b.spools(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	p, input := b.awaiting(l, nil)
	fmt.Fprintln(input, "theirs")
	if code := p.wait(); code != ExitFailed || !strings.Contains(p.out.String(), "lock lost") || strings.Count(p.out.String(), "bundlefs: ") > 2 {
		t.Errorf("with another's token: %d, %s", code, p.out.String())
	}
	input.Close()
	b.clean()
}

// TestTokenThenPassphrase: nothing is asked before the token is there.
func TestTokenThenPassphrase(t *testing.T) {
	b, l, _ := newExclusiveBench(t, os.Getuid())
	b.encryptKey("open sesame")
	keyboard, tty := testterm.Open(t)
	p, input := b.awaiting(l, tty)
	tty.Close()
	fmt.Fprintln(input, "ours")
	testterm.ReadUntil(t, keyboard, "assphrase")
	fmt.Fprintln(keyboard, "open sesame")
	go io.Copy(io.Discard, keyboard) // ends with the terminal
	if code := p.wait(); code != ExitOK {
		t.Fatalf("exit code %d", code)
	}
	pid := b.status().PID
	b.leftTerminal(pid)
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
}

func TestInputIsForOne(t *testing.T) {
	for _, o := range []string{"passive", "password_stdin"} {
		if _, err := parseArgs([]string{"h:", "/m", "-o", "exclusive=-," + o}); err == nil || !strings.Contains(err.Error(), "standard input") {
			t.Errorf("%s: %v", o, err)
		}
	}
}
