package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

var errNoAnswer = errors.New("no answer was given")

// contextPrompter is a Prompter that gives up when the context ends.
type contextPrompter interface {
	secretContext(ctx context.Context, prompt string) (string, error)
	confirmContext(ctx context.Context, prompt string) (bool, error)
}

// terminalPrompter asks on the controlling terminal, whatever standard input
// and output are.
type terminalPrompter struct {
	path string
	turn chan struct{} // holds one token: whoever has it may ask
}

// terminalTurn is shared by all prompters of the process: there is one terminal.
var terminalTurn = func() chan struct{} {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	return c
}()

// TerminalPrompter asks on /dev/tty. It is nil when the process has no
// controlling terminal.
func TerminalPrompter() Prompter {
	return newTerminalPrompter("/dev/tty")
}

func newTerminalPrompter(path string) Prompter {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	f.Close()
	return &terminalPrompter{path: path, turn: terminalTurn}
}

func (p *terminalPrompter) Secret(prompt string) (string, error) {
	return p.secretContext(context.Background(), prompt)
}

func (p *terminalPrompter) Confirm(prompt string) (bool, error) {
	return p.confirmContext(context.Background(), prompt)
}

func (p *terminalPrompter) secretContext(ctx context.Context, prompt string) (string, error) {
	return p.askText(ctx, prompt, false)
}

// TerminalSecret asks on /dev/tty without showing what is typed. It is for secrets that shall not
// become a string: the caller wipes the bytes. A process without a controlling terminal gets an error.
func TerminalSecret(ctx context.Context, prompt string) ([]byte, error) {
	return (&terminalPrompter{path: "/dev/tty", turn: terminalTurn}).ask(ctx, prompt, false)
}

// askText is ask for an answer that may be kept.
func (p *terminalPrompter) askText(ctx context.Context, prompt string, echo bool) (string, error) {
	line, err := p.ask(ctx, prompt, echo)
	answer := string(line)
	clear(line)
	return answer, err
}

func (p *terminalPrompter) confirmContext(ctx context.Context, prompt string) (bool, error) {
	prompt += " (yes/no) "
	for {
		answer, err := p.askText(ctx, prompt, true)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "yes":
			return true, nil
		case "no":
			return false, nil
		}
		prompt = "Please type yes or no: "
	}
}

// ask writes the prompt and reads one line. The terminal's state is restored in
// any case, also when ctx ends while it waits.
func (p *terminalPrompter) ask(ctx context.Context, prompt string, echo bool) ([]byte, error) {
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// O_NONBLOCK puts the descriptor under the poller, so that a deadline can
	// end a read.
	tty, err := os.OpenFile(p.path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("ask on the terminal: %w", err)
	}
	defer tty.Close()
	if !echo {
		restore, err := echoOff(tty)
		if err != nil {
			return nil, fmt.Errorf("ask on the terminal: %w", err)
		}
		defer restore()
	}
	if _, err := tty.WriteString(prompt); err != nil {
		return nil, fmt.Errorf("ask on the terminal: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := readLine(tty)
	if !echo || err != nil {
		_, _ = tty.WriteString("\n")
	}
	if ctx.Err() != nil {
		clear(line)
		return nil, context.Cause(ctx)
	}
	return line, err
}

// maxAnswer bounds what is read for one answer, in bytes.
const maxAnswer = 4096

func readLine(f *os.File) ([]byte, error) {
	line := make([]byte, 0, maxAnswer)
	one := make([]byte, 1)
	for {
		n, err := f.Read(one)
		if n == 1 {
			if one[0] == '\n' || one[0] == '\r' {
				return line, nil
			}
			if len(line) == maxAnswer {
				return nil, errors.New("the answer is too long")
			}
			line = append(line, one[0])
			continue
		}
		if err != nil {
			return nil, errNoAnswer
		}
	}
}

// echoOff stops the terminal from showing what is typed; the function it
// returns brings the old state back.
func echoOff(tty *os.File) (func(), error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var old unix.Termios
	var ioErr error
	set := func(t unix.Termios) error {
		if err := raw.Control(func(fd uintptr) { ioErr = unix.IoctlSetTermios(int(fd), unix.TCSETS, &t) }); err != nil {
			return err
		}
		return ioErr
	}
	err = raw.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, ioErr = unix.IoctlGetTermios(int(fd), unix.TCGETS); ioErr == nil {
			old = *t
		}
	})
	if err == nil {
		err = ioErr
	}
	if err != nil {
		return nil, err
	}
	silent := old
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	if err := set(silent); err != nil {
		return nil, err
	}
	return func() { _ = set(old) }, nil
}

// asker asks for one connection: its clock stands still meanwhile, and it stops
// waiting when the context ends.
type asker struct {
	ctx   context.Context
	p     Prompter
	clock *stopwatch
}

func (a *asker) secret(prompt string) (string, error) {
	return answer(a, printable(prompt), a.p.Secret, contextPrompter.secretContext)
}

func (a *asker) confirm(prompt string) (bool, error) {
	return answer(a, printable(prompt), a.p.Confirm, contextPrompter.confirmContext)
}

func answer[T any](a *asker, prompt string, plain func(string) (T, error), withContext func(contextPrompter, context.Context, string) (T, error)) (T, error) {
	a.clock.pause()
	defer a.clock.resume()
	if p, ok := a.p.(contextPrompter); ok {
		return withContext(p, a.ctx, prompt)
	}
	type result struct {
		val T
		err error
	}
	c := make(chan result, 1)
	go func() {
		val, err := plain(prompt)
		c <- result{val, err}
	}()
	select {
	case r := <-c:
		return r.val, r.err
	case <-a.ctx.Done():
		var none T
		return none, context.Cause(a.ctx)
	}
}

// printable drops control characters: prompts and messages come from the node
// as well, and must not steer the terminal.
func printable(s string) string {
	const longest = 4096
	if len(s) > longest {
		s = s[:longest]
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "?"))
}

// stopwatch calls fire once when the time has run that it was given, not
// counting the time it is paused.
type stopwatch struct {
	mu      sync.Mutex // guards all below
	left    time.Duration
	since   time.Time // when it was last started
	timer   *time.Timer
	paused  int
	stopped bool
	fired   bool
	fire    func()
}

// newStopwatch starts a watch; one without a limit (0) never fires.
func newStopwatch(limit time.Duration, fire func()) *stopwatch {
	w := &stopwatch{left: limit, since: time.Now(), fire: fire}
	if limit > 0 {
		w.timer = time.AfterFunc(limit, w.expire)
	}
	return w
}

func (w *stopwatch) expire() {
	w.mu.Lock()
	if w.paused > 0 || w.stopped || time.Since(w.since) < w.left {
		w.mu.Unlock()
		return
	}
	w.fired = true
	w.mu.Unlock()
	w.fire()
}

func (w *stopwatch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused++; w.paused == 1 && w.timer != nil && !w.fired {
		w.timer.Stop()
		w.left -= time.Since(w.since)
	}
}

func (w *stopwatch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused--; w.paused == 0 && w.timer != nil && !w.fired && !w.stopped {
		w.left = max(w.left, time.Second) // an answer shall not come too late by itself
		w.since = time.Now()
		w.timer.Reset(w.left)
	}
}

// stop ends it and tells whether it had fired.
func (w *stopwatch) stop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
	return w.fired
}
