package mountprog

import (
	"encoding/pem"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bundlefs/internal/testterm"
)

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

// TestPassphrase: the mount process asks on the terminal before it leaves it, and reconnects
// later with the same answer.
func TestPassphrase(t *testing.T) {
	b := newBench(t, os.Getuid())
	b.encryptKey("open sesame")
	b.fails("", "", "bundlefs", b.args("", "-o", "BatchMode=yes")...)
	keyboard, tty := testterm.Open(t)
	p := b.onTerminal(tty, b.args("")...)
	testterm.ReadUntil(t, keyboard, "assphrase")
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
	keyboard, tty := testterm.Open(t)
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
	testterm.ReadUntil(t, keyboard, "assphrase")
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
