package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bundlefs/internal/testnode"
)

// helloDeploy deploys the example product to the test node.
const helloDeploy = `
[DEFAULT]
product   = hello
release   = 1.4.2
admin     = USER
op_key    = KEY
bundle    = bundle-hello
venv      = venvs/hello-%(release)s
python    = /usr/bin/python3

[node:node1]
sshd.ip   = 127.0.0.1
sshd.port = PORT

[jobs:install]
deliver = local  copy dist/hello-%(release)s-*.whl vendor/*.whl
notes   = remote run cat notes.txt
verify  = remote verify
venv    = remote venv
pip     = remote pip hello-*.whl
hello   = remote run hello
`

// save writes a file as editors do: beside it, then over it.
func save(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	for _, err := range []error{err, f.Sync(), f.Close(), os.Rename(file+".tmp", file)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeploy(t *testing.T) {
	for _, c := range []struct {
		name string
		rtt  time.Duration
		wrap []string
	}{{"0s", 0, nil}, {"50ms", 50 * time.Millisecond, nil}, {"no FUSE", 0, withoutFUSE()}} {
		t.Run(c.name, func(t *testing.T) {
			n := testnode.Start(t)
			link := testnode.NewLink(t, n.Addr)
			link.SetRTT(c.rtt)
			w := newWorkstation(t, n, n.TargetVia(link), product(t), helloDeploy+putJobs)
			w.wrap = c.wrap
			mount := filepath.Join(w.home, "bundle-hello", "node1")

			w.must(exitBlocked, "conc: hint: open it first: conc open node1", "install", "node1")
			opened, mounted := "is mounted on "+mount, "mounted"
			if c.wrap != nil {
				opened, mounted = "no FUSE here", "without a mount"
			}
			w.must(exitOK, opened, "open", "node1", "-m", "release day")
			if r := w.must(exitOK, "", "nodes"); !strings.Contains(r.stdout, "open") {
				t.Errorf("nodes:\n%s", r.stdout)
			}
			if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "ours") || !strings.Contains(r.stdout, mounted) || !strings.Contains(r.stdout, "release day") {
				t.Errorf("status:\n%s", r.stdout)
			}
			if c.wrap == nil {
				notes := filepath.Join(mount, "notes.txt")
				save(t, notes, "first")
				save(t, notes, "edited in the mount")
				if got, err := os.ReadFile(notes); err != nil || string(got) != "edited in the mount" {
					t.Errorf("read back %q, %v", got, err)
				}
			} else {
				w.put("notes.txt", "first")
				w.put("notes.txt", "edited in the mount")
			}
			r := w.must(exitOK, "install: OK", "install")
			if !strings.Contains(r.stderr, "notes | edited in the mount") {
				t.Errorf("the node did not see the edit:\n%s", r.stderr)
			}
			out, err := exec.Command("ssh", "-F", n.SSHConfigVia(link), "node", "venvs/hello-1.4.2/bin/hello").Output()
			const greeting = "Hello, world! This is hello 1.4.2"
			if err != nil || !strings.HasPrefix(string(out), greeting) || !strings.Contains(r.stderr, "hello | "+greeting) {
				t.Errorf("the product's command: %q, %v\n%s", out, err, r.stderr)
			}
			if r := w.must(exitOK, "", "log", "--output"); !strings.Contains(r.stdout, "install pip: remote pip") || !strings.Contains(r.stdout, "| edited in the mount") {
				t.Errorf("log:\n%s", r.stdout)
			}
			w.must(exitOK, "closed", "close")
			w.nothingLeft(n, "venvs")
			w.must(exitBlocked, "no bundle of", "close")
			w.toldOnce()
		})
	}
}

func TestTwentyOpenAtOnce(t *testing.T) {
	n := testnode.Start(t, testnode.WithConfig("MaxStartups 100"))
	const openers = 20
	stations := make([]*workstation, openers)
	results := make([]result, openers)
	var wg sync.WaitGroup
	for i := range openers {
		// Half of them share one workstation.
		if i > 0 && i < openers/2 {
			stations[i] = stations[0]
		} else {
			stations[i] = newWorkstation(t, n, n.Target(), "", helloDeploy)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			results[i] = stations[i].conc("open", "node1", "-m", fmt.Sprintf("opener %d", i))
		}()
	}
	wg.Wait()
	winner := -1
	for i, r := range results {
		switch {
		case r.code == exitOK && winner < 0:
			winner = i
		case r.code != exitBlocked || !strings.Contains(r.stderr, "is held by") || !strings.Contains(r.stderr, "since") || !strings.Contains(r.stderr, "conc: hint: "):
			t.Errorf("opener %d: exit code %d\n%s", i, r.code, r.stderr)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	late := newWorkstation(t, n, n.Target(), "", helloDeploy)
	late.must(exitBlocked, fmt.Sprintf("(opener %d)", winner), "open", "node1")
	late.must(exitBlocked, "break", "unlock", "node1")
	stations[winner].must(exitOK, "closed", "close")
	for _, w := range stations {
		w.nothingLeft(n)
	}
}

func TestNodeUnreachable(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), product(t), helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	save(t, filepath.Join(w.home, "bundle-hello/node1/notes.txt"), "x")
	w.must(exitOK, "", "install", "--to", "deliver")
	n.Stop()
	r := w.must(exitError, "conc: hint: ", "install", "--from", "verify")
	if !strings.Contains(r.stderr, "--from verify") {
		t.Errorf("no way to go on:\n%s", r.stderr)
	}
	if r := w.must(exitOK, "", "status", "--local"); !strings.Contains(r.stdout, "bundle-hello") {
		t.Errorf("status:\n%s", r.stdout)
	}
	fresh := newWorkstation(t, n, n.Target(), "", helloDeploy)
	fresh.must(exitError, "nothing listens on port", "open", "node1")
	n.Restart()
	w.must(exitOK, "install: OK", "install", "--from", "verify")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n, "venvs")
}

func TestHostKeyChanged(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), product(t), helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	save(t, filepath.Join(w.home, "bundle-hello/node1/notes.txt"), "x")
	w.must(exitOK, "", "install", "--to", "deliver")
	known, err := os.ReadFile(n.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	n.NewHostKey()
	n.Restart()
	r := w.must(exitError, n.KnownHosts+":1:", "install", "--from", "notes")
	for _, words := range []string{"changed", "ssh-keygen", "--from notes"} {
		if !strings.Contains(r.stderr, words) {
			t.Errorf("no %q in:\n%s", words, r.stderr)
		}
	}
	fresh := newWorkstation(t, n, n.Target(), "", helloDeploy)
	fresh.must(exitError, "changed", "open", "node1")
	// The administrator tells that the new key is right.
	key := n.HostKey()
	line := fmt.Sprintf("[127.0.0.1]:%d %s %s\n", n.Port, key.Type(), keyText(key.Marshal()))
	if err := os.WriteFile(n.KnownHosts, []byte(line), 0o600); err != nil || string(known) == line {
		t.Fatal(err)
	}
	w.must(exitOK, "install: OK", "install", "--from", "notes")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n, "venvs")
}

func TestPythonMissing(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t, testnode.WithoutPython())
	w := newWorkstation(t, n, n.Target(), product(t), strings.Replace(helloDeploy, "/usr/bin/python3", "python3", 1))
	w.must(exitOK, "open", "open", "node1")
	save(t, filepath.Join(w.home, "bundle-hello/node1/notes.txt"), "x")
	r := w.must(exitBlocked, "python3", "install")
	if !strings.Contains(r.stderr, "BLOCKED") || !strings.Contains(r.stderr, "conc: hint: ") || !strings.Contains(r.stderr, "--from notes") {
		t.Errorf("got:\n%s", r.stderr)
	}
	// The node has one elsewhere.
	ini := filepath.Join(w.project, "deploy.ini")
	text, err := os.ReadFile(ini)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ini, []byte(strings.Replace(string(text), "= python3", "= /usr/bin/python3", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	w.must(exitOK, "install: OK", "install", "--from", "notes")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n, "venvs")
}

func TestPipFails(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), product(t), helloDeploy)
	wheels, err := filepath.Glob(filepath.Join(w.project, "dist", "hello-*.whl"))
	if err != nil || len(wheels) != 1 {
		t.Fatal(wheels, err)
	}
	good, err := os.ReadFile(wheels[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wheels[0], good[:len(good)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, "bundle-hello/node1")
	save(t, filepath.Join(mount, "notes.txt"), "x")
	r := w.must(exitFailed, "FAILED", "install")
	for _, words := range []string{"pip", "conc: hint: by hand: ", "conc install node1 --from pip"} {
		if !strings.Contains(r.stderr, words) {
			t.Errorf("no %q in:\n%s", words, r.stderr)
		}
	}
	// Mended where it is: in the mount.
	save(t, filepath.Join(mount, filepath.Base(wheels[0])), string(good))
	w.must(exitOK, "install: OK", "install", "--from", "pip")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n, "venvs")
}

// A mount that is in use is not unmounted; who uses it is told.
func TestBusy(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	f, err := os.Create(filepath.Join(w.home, "bundle-hello/node1/in-use"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.must(exitBlocked, fmt.Sprintf("busy: used by %d ", os.Getpid()), "close")
	f.Close()
	// From within the mount no node has to be named, nor the deploy.ini.
	cmd := w.command(t.Context(), "sync")
	cmd.Dir = filepath.Join(w.home, "bundle-hello/node1")
	if r := w.finish(cmd); r.code != exitOK {
		t.Errorf("sync: %d\n%s", r.code, r.stderr)
	}
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// The mount program was killed: opening again continues.
func TestOpenAgainAfterACrash(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, "bundle-hello/node1")
	save(t, filepath.Join(mount, "notes.txt"), "kept")
	w.must(exitBlocked, "held by this workstation", "open", "node1")
	for _, again := range []string{"open", "mount"} {
		w.must(exitOK, "", "sync")
		w.killMount()
		if r := w.must(exitOK, "", "status"); !strings.Contains(r.stdout, "dead") {
			t.Errorf("status:\n%s", r.stdout)
		}
		w.must(exitError, "conc mount node1", "sync")
		w.must(exitOK, "is mounted on", again, "node1")
		if got, err := os.ReadFile(filepath.Join(mount, "notes.txt")); err != nil || string(got) != "kept" {
			t.Errorf("%q, %v", got, err)
		}
	}
	w.killMount()
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}
