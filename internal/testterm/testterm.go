// Package testterm gives tests a terminal: a pseudo terminal of 80 columns that
// a program under test is started on or writes to.
package testterm

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Open makes a pseudo terminal: what is typed goes into the first file, and what
// programs write comes out of it; the second is what a program sees. Both are
// closed at the end of the test.
func Open(t testing.TB) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	var n int
	descriptor(t, keyboard, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

// descriptor does something with a file's descriptor and leaves it non-blocking, which Fd does not.
func descriptor(t testing.TB, f *os.File, do func(fd int) error) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var doErr error
	if err := errors.Join(raw.Control(func(fd uintptr) { doErr = do(int(fd)) }), doErr); err != nil {
		t.Fatal(err)
	}
}

// ReadUntil reads what programs write on the terminal until all the words were
// seen, in this order, and returns what it read.
func ReadUntil(t testing.TB, keyboard *os.File, words ...string) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 1024)
	if err := keyboard.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for !inOrder(got.String(), words) {
		n, err := keyboard.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("the terminal shows %q, want …%s…: %v", got.String(), strings.Join(words, "…"), err)
		}
	}
	return got.String()
}

func inOrder(text string, words []string) bool {
	for _, w := range words {
		_, after, found := strings.Cut(text, w)
		if !found {
			return false
		}
		text = after
	}
	return true
}
