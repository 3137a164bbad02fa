package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"bundlefs/internal/testnode"
)

const sudoDeploy = `[DEFAULT]
bundle = b
admin = USER
op_key = KEY
sshd.ip = 127.0.0.1
sshd.port = PORT
mount = none
python = /usr/bin/python3
venv = v
[node:n1]
[jobs:root]
who = remote sudo id -u
wait = remote sudo sh -c 'echo $$ > going; while [ ! -e go ]; do sleep 0.1; done; env; cat'
bad = remote sudo sh -c 'echo no; exit 3'
[jobs:venv]
venv = remote venv
[jobs:own]
call = remote python --sudo own:secret
check = remote test --sudo own
`

// ownSudo is an application that is given the password. It must not hold it.
const ownSudo = `import unittest
def secret(ncd, sudoPass):
    assert len(sudoPass) == LENGTH
    print("called with it")
class Check(unittest.TestCase):
    def test_it(self):
        self.assertEqual(len(self.sudoPass), LENGTH)
`

// The password of sudo shows nowhere: not in processes, files or output.
func TestSudoPassword(t *testing.T) {
	if os.Getuid() != 0 { // only root can give somebody a password
		return
	}
	n := testnode.Start(t, testnode.WithSudo("USER ALL=(ALL:ALL) ALL"))
	w := newWorkstation(t, n, n.Target(), "", sudoDeploy)
	secret := filepath.Join(t.TempDir(), "secret")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		os.Remove(secret)
		if err := os.WriteFile(secret, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	w.must(exitOK, "", "open", "n1")
	write(testnode.SudoPassword+"\n", 0o644)
	w.must(exitBlocked, "chmod 600", "run", "n1", "root", "--sudo-password-file", secret)
	write("wrong\n", 0o600)
	w.must(exitBlocked, "wrong sudo password", "run", "n1", "root", "--sudo-password-file", secret)
	write(testnode.SudoPassword+"\n", 0o600)

	found := make(chan []string, 1)
	bundle := filepath.Join(n.Home, "b")
	go func() {
		await(func() bool { _, err := os.Stat(filepath.Join(bundle, "going")); return err == nil })
		found <- processesWith(testnode.SudoPassword)
		os.WriteFile(filepath.Join(bundle, "go"), nil, 0o644)
	}()
	r := w.must(exitFailed, "bad FAILED", "run", "n1", "root", "--sudo-password-file", secret, "-v")
	if procs := <-found; len(procs) > 0 {
		t.Errorf("the password shows in %q", procs)
	}
	if !strings.Contains(r.stderr, "who | 0") {
		t.Errorf("not root:\n%s", r.stderr)
	}
	shown := r.stdout + r.stderr
	r = w.must(exitFailed, "", "run", "n1", "root", "--sudo-password-file", secret, "--json")
	if !strings.Contains(r.stdout, `"line":"no"`) {
		t.Errorf("events:\n%s", r.stdout)
	}
	shown += r.stdout + r.stderr
	shown += w.ownSudo(n, secret)
	for _, args := range [][]string{{"log", "--json"}, {"log", "--output"}, {"plan", "n1", "root"}, {"plan", "n1", "root", "--format", "sh"}, {"status"}} {
		r := w.must(exitOK, "", args...)
		shown += r.stdout + r.stderr
	}
	for _, form := range []string{testnode.SudoPassword, base64.StdEncoding.EncodeToString([]byte(testnode.SudoPassword))} {
		if strings.Contains(shown, form) {
			t.Error("the password shows in what conc writes")
		}
		if strings.Contains(n.Log(), form) {
			t.Error("the password is in sshd's log")
		}
		for _, dir := range []string{w.home, w.project, n.Home} {
			for _, file := range filesWith(dir, form) {
				t.Errorf("the password is in %s", file)
			}
		}
		for _, file := range temporaryWith(form) {
			t.Errorf("the password is in %s", file)
		}
	}
	w.must(exitOK, "", "close", "n1")
}

// processesWith are the processes that show a word in their arguments or environment.
func processesWith(word string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/*")
	for _, file := range files {
		switch filepath.Base(file) {
		case "cmdline", "environ":
			if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(word)) {
				found = append(found, file)
			}
		}
	}
	return found
}

// filesWith are the files with a word.
func filesWith(dir, word string) []string {
	var found []string
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(word)) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// temporaryWith are the temporary files with a word, as conc and Python name them: the folders of
// other tests, with what they mount, are not entered.
func temporaryWith(word string) []string {
	var found []string
	for _, pattern := range []string{"*", "conc-*/*", "tmp*/*"} {
		files, _ := filepath.Glob(filepath.Join(os.TempDir(), pattern))
		for _, file := range files {
			info, err := os.Lstat(file)
			if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
				continue
			}
			if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(word)) {
				found = append(found, file)
			}
		}
	}
	return found
}

// ownSudo runs an application that gets the password, as step and by conc test, and gives all
// that conc shows.
func (w *workstation) ownSudo(n *testnode.Node, secret string) string {
	w.t.Helper()
	w.must(exitOK, "", "run", "n1", "venv")
	folders, _ := filepath.Glob(filepath.Join(n.Home, "v/lib/python3*/site-packages"))
	if len(folders) != 1 {
		w.t.Fatalf("the venv's folders are %v", folders)
	}
	write(w.t, filepath.Join(folders[0], "own.py"), strings.ReplaceAll(ownSudo, "LENGTH", fmt.Sprint(utf8.RuneCountInString(testnode.SudoPassword))))
	r := w.must(exitOK, "call | called with it", "run", "n1", "own", "--sudo-password-file", secret)
	shown := r.stdout + r.stderr
	for _, format := range [][]string{nil, {"--json"}} {
		in, out, err := os.Pipe()
		if err != nil {
			w.t.Fatal(err)
		}
		cmd := w.command(w.t.Context(), append([]string{"test", "n1", "--sudo-password-fd", "3"}, format...)...)
		cmd.ExtraFiles = []*os.File{in}
		io.WriteString(out, testnode.SudoPassword+"\n")
		out.Close()
		r := w.finish(cmd)
		in.Close()
		if r.code != exitOK || !strings.Contains(r.stdout+r.stderr, "1 test") {
			w.t.Errorf("conc test: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		shown += r.stdout + r.stderr
	}
	return shown
}

// Of several nodes, each is asked once, by the agent that runs its steps; one whose run cannot
// begin is not asked.
func TestSudoSeveral(t *testing.T) {
	if os.Getuid() != 0 { // only root can give somebody a password
		return
	}
	t.Parallel()
	n := testnode.Start(t, testnode.WithSudo("USER ALL=(ALL:ALL) ALL"))
	w := newWorkstation(t, n, n.Target(), "", sudoDeploy+"[jobs:who]\nwho = remote sudo id -u\n[node:n2]\nbundle = b2\n")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testnode.SudoPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, nodes := range []string{"n1", "@all"} {
		r := w.must(exitBlocked, "open it first: conc open n1", "run", nodes, "who", "--sudo-password-file", "/nosuch")
		if strings.Contains(r.stderr, "/nosuch") {
			t.Errorf("%s: the password was asked for:\n%s", nodes, r.stderr)
		}
	}
	w.must(exitOK, "", "open", "@all")
	const session = "Starting session: command for "
	// For each node: who locks it, who looks for other bundles, and the mount, which looks beside all
	// else which servers it has.
	const opening = 3 * 2
	if !await(func() bool { return strings.Count(n.Log(), session) == opening }) {
		t.Fatalf("%d commands, want %d", strings.Count(n.Log(), session), opening)
	}
	before := opening
	r := w.must(exitOK, "", "run", "@all", "who", "--sudo-password-file", secret, "--parallel", "2")
	if strings.Count(r.stderr, "who | 0") != 2 {
		t.Errorf("not root:\n%s", r.stderr)
	}
	if got := strings.Count(n.Log(), session) - before; got != 2 {
		t.Errorf("%d agents for two nodes", got)
	}
	// A run that is not begun leaves no agent.
	w.must(exitFailed, "not begun", "run", "@all", "root", "--sudo-password-file", secret, "--max-fail", "1", "--from", "bad")
	w.must(exitOK, "", "close", "@all")
}
