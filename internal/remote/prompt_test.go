package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal: what the operator sees and types, and
// the path of the end that is asked on.
func openTerminal(t *testing.T) (operator *os.File, path string) {
	t.Helper()
	operator, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { operator.Close() })
	raw, err := operator.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var ioErr error
	if err := raw.Control(func(fd uintptr) {
		if ioErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioErr == nil {
			number, ioErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || ioErr != nil {
		t.Fatal(err, ioErr)
	}
	path = fmt.Sprintf("/dev/pts/%d", number)
	// As a shell would, something holds the terminal open all the time.
	held, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	_ = operator.SetDeadline(time.Now().Add(30 * time.Second))
	return operator, path
}

// expect reads what the operator sees up to text.
func expect(t *testing.T, r *bufio.Reader, text string) string {
	t.Helper()
	var seen strings.Builder
	for !strings.HasSuffix(seen.String(), text) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("saw %q, want %q: %v", seen.String(), text, err)
		}
		seen.WriteByte(b)
	}
	return seen.String()
}

func echoes(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return termios.Lflag&unix.ECHO != 0
}

func TestTerminalPrompter(t *testing.T) {
	operator, path := openTerminal(t)
	screen := bufio.NewReader(operator)
	p := newTerminalPrompter(path)
	type answer struct {
		secret string
		yes    bool
		err    error
	}
	answers := make(chan answer, 1)

	go func() {
		s, err := p.Secret("Password: ")
		answers <- answer{secret: s, err: err}
	}()
	expect(t, screen, "Password: ")
	fmt.Fprint(operator, "open sesame\n")
	if a := <-answers; a.err != nil || a.secret != "open sesame" {
		t.Errorf("got %+v", a)
	}

	go func() {
		yes, err := p.Confirm("Sure?")
		answers <- answer{yes: yes, err: err}
	}()
	if seen := expect(t, screen, "Sure? (yes/no) "); strings.Contains(seen, "sesame") {
		t.Errorf("the password was shown: %q", seen)
	}
	fmt.Fprint(operator, "y\n")
	expect(t, screen, "type yes or no: ")
	fmt.Fprint(operator, "yes\n")
	if a := <-answers; a.err != nil || !a.yes {
		t.Errorf("got %+v", a)
	}

	go func() {
		s, err := p.Secret("Again: ")
		answers <- answer{secret: s, err: err}
	}()
	expect(t, screen, "Again: ")
	fmt.Fprint(operator, "\x04") // end of file
	if a := <-answers; !errors.Is(a.err, errNoAnswer) {
		t.Errorf("got %+v", a)
	}
}

func TestTerminalPrompterGivesUp(t *testing.T) {
	operator, path := openTerminal(t)
	screen := bufio.NewReader(operator)
	p := newTerminalPrompter(path).(contextPrompter)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := p.secretContext(ctx, "Password: ")
		failed <- err
	}()
	expect(t, screen, "Password: ")
	if echoes(t, path) {
		t.Error("what is typed is shown")
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !echoes(t, path) {
		t.Error("the terminal does not show again what is typed")
	}
	if newTerminalPrompter(path+"/none") != nil {
		t.Error("a prompter without a terminal")
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\r\n\x07ü\xff\u202e"); got != "a[31mb\nü?" {
		t.Errorf("got %q", got)
	}
}

// TestUserPrompter is the choice between terminal and askpass, and what the program is given and gives.
func TestUserPrompter(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "askpass")
	script := "#!/bin/sh\nprintf '%s' \"$1\" >" + dir + "/asked\ncat " + dir + "/answer\nexit $(cat " + dir + "/code)\n"
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("askpass", script)
	write("code", "0")
	t.Setenv("SSH_ASKPASS", program)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	p := UserPrompter()
	write("answer", "se cret\nmore\n")
	if got, err := p.Secret("password: "); got != "se cret" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "password: " {
		t.Errorf("asked %q", asked)
	}
	for answer, want := range map[string]bool{"yes\n": true, "YES": true, "no\n": false, "": false} {
		write("answer", answer)
		if got, err := p.Confirm("sure?"); got != want || err != nil {
			t.Errorf("%q: %v %v", answer, got, err)
		}
	}
	write("answer", strings.Repeat("x", maxAnswer+1))
	if _, err := p.Secret("password: "); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
	write("answer", "secret\n")
	write("code", "1")
	if got, err := p.Secret("password: "); got != "" || !errors.Is(err, errNoAnswer) || strings.Contains(err.Error(), "secret") {
		t.Errorf("cancelled: %q %v", got, err)
	}
	t.Setenv("SSH_ASKPASS_REQUIRE", "prefer")
	if _, ok := UserPrompter().(*askpass); ok {
		t.Error("askpass without a display")
	}
	t.Setenv("DISPLAY", ":0")
	if _, ok := UserPrompter().(*askpass); !ok {
		t.Error("no askpass although it is preferred")
	}
	t.Setenv("SSH_ASKPASS_REQUIRE", "never")
	if _, ok := UserPrompter().(*askpass); ok {
		t.Error("askpass although it is forbidden")
	}
}
