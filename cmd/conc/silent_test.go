package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
)

const silentNode = `
[DEFAULT]
bundle = bundle-silent
sshd.timeout = 1s
[node:node1]
sshd.ip = 127.0.0.1
sshd.port = PORT
admin = USER
op_key = KEY
`

// TestSilentNode stalls at each step before a command's first word: nothing waits for longer than
// sshd.timeout, the error tells what was waited for, and an interrupt ends it at once.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	shell, _ := startSilent(t, "")
	noisy, _ := startSilent(t, "echo welcome; ")
	for _, c := range []struct {
		name, words string
		node        *testnode.Node
		port        int
	}{
		{"before the banner", "no answer in time", shell, mute(t)},
		{"login shell", "wait for the login shell on 127.0.0.1:", shell, shell.Port},
		{"login shell that greets", "wait for the login shell on 127.0.0.1:", noisy, noisy.Port},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := c.node.Target()
			target.Port = c.port
			w := newWorkstation(t, c.node, target, "", silentNode)
			for _, args := range [][]string{{"open", "node1"}, {"check", "node1"}, {"unlock", "node1"}, {"nodes", "--remote"}} {
				begun := time.Now()
				r := w.conc(args...)
				if r.code == exitOK || !strings.Contains(r.stdout+r.stderr, c.words) {
					t.Errorf("conc %v: exit code %d, want an error with %q\n%s%s", args, r.code, c.words, r.stdout, r.stderr)
				}
				if d := time.Since(begun); d > 25*time.Second { // the default alone is 30 s
					t.Errorf("conc %v took %v", args, d)
				}
			}
		})
	}
}

// TestSilentNodeInterrupted waits for as long as it takes without sshd.timeout.
func TestSilentNodeInterrupted(t *testing.T) {
	t.Parallel()
	n, pids := startSilent(t, "")
	w := newWorkstation(t, n, n.Target(), "", strings.Replace(silentNode, "= 1s", "= 10m", 1))
	r := w.start("open", "node1")
	if !await(func() bool { _, err := os.Stat(pids); return err == nil }) {
		t.Error("the node was not asked")
	}
	begun := time.Now()
	r.Process.Signal(unix.SIGINT)
	if code := r.end(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d\n%s", code, exitInterrupted, r.said())
	}
	if d := time.Since(begun); d > 15*time.Second { // taking an opening back may last for 30 s
		t.Errorf("it ended %v after the interrupt", d)
	}
}

// startSilent starts a node whose login shell does something first, and then hangs. What hangs is noted
// in a file, and ended with the test: nothing on the node tells it that nobody waits.
func startSilent(t *testing.T, first string) (n *testnode.Node, pids string) {
	t.Helper()
	pids = filepath.Join(t.TempDir(), "pids")
	n = testnode.Start(t, testnode.WithConfig("ForceCommand "+first+"echo $$ >>"+pids+"; exec sleep 1000"))
	t.Cleanup(func() {
		text, _ := os.ReadFile(pids)
		for word := range strings.FieldsSeq(string(text)) {
			pid, _ := strconv.Atoi(word)
			if p, ok := proc.Read(pid); ok && p.Name == "sleep" {
				p.Signal(unix.SIGKILL)
			}
		}
	})
	return n, pids
}

// mute is the port of a server that takes connections and never says anything.
func mute(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
