package mountprog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"bundlefs/internal/remote"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// memory is a remote.Prompter that asks on the terminal until the mount is ready, and from then
// on, when there is no terminal any more, gives the same answers to reconnect with. They
// are kept in memory only.
type memory struct {
	mu       sync.Mutex        // guards the rest
	terminal remote.Prompter   // nil once detached, or when there is none
	answers  map[string]string // by prompt
	given    map[string]bool   // prompts answered from memory for the present connection
}

var errForgotten = errors.New("nobody can be asked after the mount has left the terminal")

// prompter is for one connection; nil when there is nobody to ask and nothing is known.
func (p *memory) prompter() remote.Prompter {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given = map[string]bool{}
	if p.terminal == nil && len(p.answers) == 0 {
		return nil
	}
	return p
}

// leave ends asking on the terminal.
func (p *memory) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.terminal = nil
}

func (p *memory) Secret(prompt string) (string, error) {
	p.mu.Lock()
	terminal := p.terminal
	answer, known := p.answers[prompt]
	again := p.given[prompt]
	p.given[prompt] = true
	p.mu.Unlock()
	if terminal == nil {
		// Asked twice for one connection: the answer that was good is not any more.
		if !known || again {
			return "", errForgotten
		}
		return answer, nil
	}
	answer, err := terminal.Secret(prompt)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers == nil {
		p.answers = map[string]string{}
	}
	p.answers[prompt] = answer
	return answer, nil
}

func (p *memory) Confirm(prompt string) (bool, error) {
	p.mu.Lock()
	terminal := p.terminal
	p.mu.Unlock()
	if terminal == nil {
		return false, errForgotten
	}
	return terminal.Confirm(prompt)
}

// stdinPassword answers each question for a password with the one that came on standard input.
type stdinPassword struct{ password string }

// maxPassword bounds a password, in bytes.
const maxPassword = 4096

// passwordFrom reads the first line of a file.
func passwordFrom(f *os.File) (remote.Prompter, error) {
	line, err := firstLine(f, maxPassword)
	defer func() { clear(line[:cap(line)]) }()
	if err == nil && len(line) == 0 {
		err = errors.New("standard input has no password")
	}
	if err != nil {
		return nil, fail("give the password as the first line", "password_stdin: %w", err)
	}
	return &stdinPassword{string(line)}, nil
}

// firstLine reads the first line of a file, without its end, and no further.
func firstLine(f *os.File, most int) ([]byte, error) {
	line := make([]byte, 0, most)
	for one := make([]byte, 1); ; {
		n, err := f.Read(one)
		switch {
		case n == 1 && one[0] == '\n', n == 0 && errors.Is(err, io.EOF):
			return line, nil
		case n == 0 && err != nil:
			return line, fmt.Errorf("read standard input: %w", err)
		case len(line) == most:
			return line, fmt.Errorf("the first line of standard input is longer than %d bytes", most)
		case n == 1:
			line = append(line, one[0])
		}
	}
}

func (p *stdinPassword) Secret(prompt string) (string, error) {
	if strings.Contains(strings.ToLower(prompt), "passphrase") {
		return "", errors.New("the password of standard input is not for keys")
	}
	return p.password, nil
}

func (*stdinPassword) Confirm(string) (bool, error) {
	return false, errors.New("nobody can be asked with password_stdin")
}

// terminalState is how the terminal was before anything was asked on it. A signal may come
// while a password is typed, and the shell would be left without echo.
type terminalState struct {
	tty   *os.File // nil without a terminal
	state *term.State
}

func keepTerminal() *terminalState {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return &terminalState{}
	}
	state, err := term.GetState(int(tty.Fd()))
	if err != nil {
		tty.Close()
		return &terminalState{}
	}
	return &terminalState{tty, state}
}

// restore brings the state back, unless we are in the background: there the terminal would stop us.
func (t *terminalState) restore() {
	if t.tty == nil {
		return
	}
	if group, err := unix.IoctlGetInt(int(t.tty.Fd()), unix.TIOCGPGRP); err == nil && int32(group) == int32(unix.Getpgrp()) {
		term.Restore(int(t.tty.Fd()), t.state)
	}
}

func (t *terminalState) close() {
	if t.tty != nil {
		t.tty.Close()
	}
}
