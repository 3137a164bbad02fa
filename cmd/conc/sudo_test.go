package main

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
[node:n1]
[jobs:root]
who = remote sudo id -u
wait = remote sudo sh -c 'echo $$ > going; while [ ! -e go ]; do sleep 0.1; done; env; cat'
bad = remote sudo sh -c 'echo no; exit 3'
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
		deadline := time.Now().Add(time.Minute)
		for time.Now().Before(deadline) {
			if _, err := os.Stat(filepath.Join(bundle, "going")); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond) // polls
		}
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
	for _, args := range [][]string{{"log", "--json"}, {"log", "--output"}, {"plan", "n1", "root"}, {"plan", "n1", "root", "--format", "sh"}, {"status"}} {
		r := w.must(exitOK, "", args...)
		shown += r.stdout + r.stderr
	}
	for _, form := range []string{testnode.SudoPassword, base64.StdEncoding.EncodeToString([]byte(testnode.SudoPassword))} {
		if strings.Contains(shown, form) {
			t.Error("the password shows in what conc writes")
		}
		for _, dir := range []string{w.home, w.project, n.Home} {
			for _, file := range filesWith(t, dir, form) {
				t.Errorf("the password is in %s", file)
			}
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

func filesWith(t *testing.T, dir, word string) []string {
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(word)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}
