package mountprog

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// terminal makes a pseudo terminal: what is typed goes into the first file, the second is what
// a program sees.
func terminal(t *testing.T) (keyboard, tty *os.File) {
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
func descriptor(t *testing.T, f *os.File, do func(fd int) error) {
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

// encryptKey gives the user's key a passphrase.
func (b *bench) encryptKey(passphrase string) {
	b.t.Helper()
	raw, err := os.ReadFile(b.target.IdentityFile)
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(raw)
	if err != nil {
		b.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.target.IdentityFile, pem.EncodeToMemory(block), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// onTerminal starts bundlefs as the leader of a session on the terminal, as a login shell would be.
func (b *bench) onTerminal(tty *os.File, args ...string) *process {
	b.t.Helper()
	p := &process{b: b, cmd: b.command("bundlefs", args...)}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	tty.Close() // so that reading ends when the programs have ended
	return p
}

// readUntil reads what the program writes on its terminal.
func readUntil(t *testing.T, keyboard *os.File, what string) {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 1024)
	if err := keyboard.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(got.String(), what) {
		n, err := keyboard.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("the terminal shows %q, want …%s…: %v", got.String(), what, err)
		}
	}
}

// TestPassphrase: the mount process asks on the terminal before it leaves it, and reconnects
// later with the same answer.
func TestPassphrase(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.encryptKey("open sesame")
	b.fails("", "", "bundlefs", b.args("", "-o", "BatchMode=yes")...)
	keyboard, tty := terminal(t)
	p := b.onTerminal(tty, b.args("")...)
	readUntil(t, keyboard, "assphrase")
	fmt.Fprintln(keyboard, "open sesame")
	if code := p.wait(); code != ExitOK {
		t.Fatalf("exit code %d", code)
	}
	pid := b.status().PID
	b.leftTerminal(pid)
	b.node.Restart()
	await(t, "the connection comes back", func() bool { return b.run("ls", b.mountpoint).code == 0 && b.status().Connected })
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
}

// TestInterruptedPassphrase: Ctrl-C at the question ends both processes, and brings back the echo.
func TestInterruptedPassphrase(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.encryptKey("open sesame")
	keyboard, tty := terminal(t)
	watch, err := os.OpenFile(tty.Name(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	echo := func() bool {
		state, err := unix.IoctlGetTermios(int(watch.Fd()), unix.TCGETS)
		return err == nil && state.Lflag&unix.ECHO != 0
	}
	p := b.onTerminal(tty, b.args("")...)
	readUntil(t, keyboard, "assphrase")
	if echo() {
		t.Error("the passphrase would be shown")
	}
	fmt.Fprint(keyboard, "\x03")
	if code := p.wait(); code != ExitInterrupted {
		t.Errorf("exit code %d, want %d", code, ExitInterrupted)
	}
	if !echo() {
		t.Error("the terminal is left without echo")
	}
	b.clean()
}
