package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestPythonIsMissing(t *testing.T) {
	n := testnode.Start(t, testnode.WithoutPython())
	s := newSite(t, n, "python = python3")
	r, _ := s.run("remote venv")
	want(t, r, Blocked, "python3 is not on the node", "install python3")
	if r.Resume != "conc install node1 --from s1" {
		t.Errorf("resume with %q", r.Resume)
	}
	s = newSiteAgain(t, n, "python = /no/such/python")
	r, _ = s.run("remote venv")
	want(t, r, Blocked, "/no/such/python is not on the node")
	s = newSiteAgain(t, n, "python = /etc/passwd")
	r, _ = s.run("remote venv")
	want(t, r, Blocked, "cannot be run")
	s = newSiteAgain(t, n, "python = /usr/bin/python3")
	r, _ = s.run("remote venv")
	want(t, r, OK)
}

// newSiteAgain is newSite on a node that has a bundle.
func newSiteAgain(t *testing.T, n *testnode.Node, attributes ...string) *site {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(n.Home, "bundle-1")); err != nil {
		t.Fatal(err)
	}
	return newSite(t, n, attributes...)
}

func TestPythonIsOld(t *testing.T) {
	n := testnode.Start(t)
	old := filepath.Join(n.Home, "old")
	for script, part := range map[string]string{
		"#!/bin/sh\necho 'conc: this is python 3.5.2' >&2; exit 1\n":                   "3.6 or later",
		"#!/bin/sh\necho 'Unknown option: -I' >&2; echo 'usage: python' >&2; exit 2\n": "3.6 or later",
	} {
		if err := os.WriteFile(old, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		r, _ := newSiteAgain(t, n, "python = "+old).run("remote venv")
		want(t, r, Blocked, part)
	}
}

func TestBrokenArtifact(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	s.deliver(wheel(t, "pip"))
	s.write("hello_conc-1.0-py3-none-any.whl", "this is no zip file")
	r, _ := s.run("local copy *.whl", "remote venv", "remote pip hello_conc-*.whl", "remote run hello-conc")
	want(t, r, Failed, "pip: ", "broken")
	if r.Step != "s3" || r.ExitCode <= 0 || len(r.Output) == 0 || r.Resume != "conc install node1 --from s3" || !strings.Contains(r.Command, "pip") {
		t.Errorf("%+v", r)
	}
	// Mended, and continued.
	s.deliver(filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
	r, _ = s.run("local copy *.whl")
	want(t, r, OK)
	list := steps(t, "local copy *.whl", "remote venv", "remote pip hello_conc-*.whl", "remote run hello-conc")
	e := &events{}
	want(t, Run(t.Context(), &s.env, list, Options{From: "s3"}, e), OK)
	if strings.Join(e.started, " ") != "s3 1/2 s4 2/2" {
		t.Errorf("%q", e.started)
	}
}

func TestFailures(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	s.write("a.txt", "a")
	s.write("broken.tar.gz", "x")
	want(t, first(s.run("local copy a.txt broken.tar.gz")), OK)
	for _, c := range []struct {
		line   string
		status Status
		parts  []string
	}{
		{"local copy nothing-*.whl", Failed, []string{"nothing-*.whl", "relative to"}},
		{"local run exit 4", Failed, []string{"exit status 4"}},
		{"remote run exit 4", Failed, []string{"exit status 4"}},
		{"remote run kill -9 $$", Failed, []string{"SIGKILL"}},
		{"remote untar nothing-*.tar.gz", Failed, []string{"nothing-*.tar.gz", "copy step"}},
		{"remote untar broken.tar.gz", Failed, []string{"broken"}},
		{"remote pip a.txt", Blocked, []string{"no virtual environment", "venv step"}},
		{"remote setup a", Blocked, []string{"no virtual environment"}},
		{"local stop look at it first", Stopped, []string{"look at it first"}},
		{"remote stop", Stopped, nil},
	} {
		r, _ := s.run(c.line)
		want(t, r, c.status, c.parts...)
	}
	r := first(s.run("local stop", "local run true"))
	if r.Resume != "conc install node1 --from s2" || r.Interrupted {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(filepath.Join(s.bundle.path, "a.txt"), []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("remote verify")), Failed, "1 different", "copy step")
	want(t, first(s.run("local copy a.txt", "remote verify")), OK)
	if err := os.Remove(filepath.Join(s.bundle.path, "a.txt")); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("remote verify")), Failed, "1 missing")
}

func first(r Result, _ *events) Result { return r }

func TestBarrier(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	for err, status := range map[error]Status{
		&bundle.RefusedError{Changes: []bundle.Refused{{Path: "vendor/x.whl", Errno: "ENOSPC", Error: "no space left on device"}}}: Blocked,
		&bundle.LostError{}:        Blocked,
		&bundle.LinkError{}:        Error,
		&remote.HostKeyError{}:     Error,
		&remote.UnreachableError{}: Error,
		errors.New("broken"):       Error,
	} {
		s.bundle.syncErr = err
		r, e := s.run("remote run echo no")
		want(t, r, status, "barrier before the step: "+err.Error())
		if len(e.out) > 0 {
			t.Error("the step was begun")
		}
		if status == Blocked && !errors.Is(err, bundle.ErrNotOurs) {
			status = Failed
		}
		want(t, first(s.run("local sync")), status, err.Error())
	}
	s.bundle.syncErr = nil
	s.bundle.health = bundle.HealthDead
	want(t, first(s.run("remote run true")), Blocked, "dead", "conc mount node1")
	want(t, first(s.run("local run true")), Blocked, "dead")
	want(t, first(s.run("local copy deploy.ini")), Blocked, "dead")
	// Not mounted any more, and not all is sent.
	s.bundle.health, s.bundle.spool = bundle.HealthNone, "/spool"
	for _, line := range []string{"remote run echo no", "remote close", "local sync", "local copy deploy.ini"} {
		r, e := s.run(line)
		want(t, r, Blocked, "not mounted", "/spool", "conc mount node1")
		if len(e.out) > 0 {
			t.Error("the step was begun")
		}
	}
	if _, err := Enter(t.Context(), &s.env); !errors.Is(err, bundle.ErrBlocked) {
		t.Errorf("a shell is let in: %v", err)
	}
	s.bundle.spool = ""
	want(t, first(s.run("remote run true")), OK)
}

// A timeout ends the command with all that it started, on either host.
func TestTimeout(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	for _, host := range []string{"local", "remote"} {
		file := filepath.Join(s.bundle.path, host)
		// The agent runs when the time begins.
		r, _ := s.run("remote run true", host+" run --timeout 3s sh -c 'trap \"\" TERM; echo $$ > "+host+"; while :; do sleep 0.1; done' & wait")
		want(t, r, TimedOut, "not done in 3s", "--timeout")
		if pid := pidIn(t, file); lives(pid) {
			t.Errorf("%s: process %d is left", host, pid)
		}
	}
	want(t, first(s.run("remote venv --timeout 1ms")), TimedOut)
	// Also what has a session of its own; but not what a step left that was OK.
	for _, host := range []string{"local", "remote"} {
		want(t, first(s.run(host+" run setsid sh -c 'echo $$ > daemon; exec sleep 300' >/dev/null 2>&1 &")), OK)
		daemon := pidIn(t, filepath.Join(s.bundle.path, "daemon"))
		r, _ := s.run("remote run true", host+" run --timeout 3s (setsid sh -c 'echo $$ > gone; exec sleep 300' &); setsid env -i sh -c 'trap \"\" TERM; echo $$ > bare; while :; do sleep 0.1; done' & sleep 300")
		want(t, r, TimedOut, "killed with all that it started")
		for _, name := range []string{"gone", "bare"} {
			if pid := pidIn(t, filepath.Join(s.bundle.path, name)); lives(pid) {
				t.Errorf("%s: %s, process %d, is left", host, name, pid)
			}
			os.Remove(filepath.Join(s.bundle.path, name))
		}
		if !lives(daemon) {
			t.Errorf("%s: a daemon was killed", host)
		}
		if err := kill(daemon); err != nil {
			t.Error(err)
		}
		os.Remove(filepath.Join(s.bundle.path, "daemon"))
	}
}

func TestCancel(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	for _, host := range []string{"local", "remote"} {
		ctx, cancel := context.WithCancel(t.Context())
		e := &events{onOutput: func(string) { cancel() }}
		file := filepath.Join(s.bundle.path, host)
		r := s.runWith(ctx, e, host+" run echo $$ > "+host+"; echo ready; sleep 300", "remote run echo no")
		want(t, r, Stopped, "interrupted")
		if !r.Interrupted || r.Resume != "conc install node1 --from s1" {
			t.Errorf("%+v", r)
		}
		if pid := pidIn(t, file); lives(pid) {
			t.Errorf("%s: process %d is left", host, pid)
		}
		want(t, s.runWith(ctx, e, "remote run echo no"), Stopped)
		if strings.Join(e.out, " ") != "ready" {
			t.Errorf("%q", e.out)
		}
	}
}

// When the link is lost, the step is an ERROR, and the node ends what ran.
func TestLostLink(t *testing.T) {
	n := testnode.Start(t)
	s := newSite(t, n)
	for name, cut := range map[string]func(*testnode.Link){
		"reset":              func(l *testnode.Link) { l.Reset() },
		"killed on the node": func(*testnode.Link) { n.KillServer() },
	} {
		link := testnode.NewLink(t, n.Addr)
		s.connectTo(n.TargetVia(link))
		file := filepath.Join(s.bundle.path, "pid")
		os.Remove(file)
		e := &events{onOutput: func(string) { cut(link) }}
		r := s.runWith(t.Context(), e, "remote run echo $$ > pid; echo ready; while :; do sleep 0.1; done")
		want(t, r, Error, "lost", "go on from")
		pid := pidIn(t, file)
		until(t, name+": the command has ended", func() bool { return !lives(pid) })
		if name == "killed on the node" {
			n.Restart()
		}
	}
	s.connectTo(n.Target())
	want(t, first(s.run("remote run true")), OK)
}

// A node that cannot be heard any more does not hold up who interrupts.
func TestCancelOnSilentLink(t *testing.T) {
	n := testnode.Start(t)
	s := newSite(t, n)
	link := testnode.NewLink(t, n.Addr)
	s.connectTo(n.TargetVia(link))
	ctx, cancel := context.WithCancel(t.Context())
	e := &events{onOutput: func(string) { link.Drop(); cancel() }}
	r := s.runWith(ctx, e, "remote run echo ready; sleep 300")
	want(t, r, Stopped, "interrupted, but the node did not answer")
	link.Reset() // else the command lives until the node gives up
}

func TestResumeNamesTheList(t *testing.T) {
	s := newOffline(t, nil)
	list := steps(t, "local stop", "local stop")
	for i := range list {
		list[i].List = "nightly jobs"
	}
	if r := Run(t.Context(), &s.env, list, Options{}, nil); r.Resume != "conc run node1 'nightly jobs' --from s2" {
		t.Error(r.Resume)
	}
	if r := Run(t.Context(), &s.env, list, Options{From: "s2"}, nil); r.Resume != "" {
		t.Error(r.Resume)
	}
}

func TestUnreachable(t *testing.T) {
	n := testnode.Start(t)
	s := newSite(t, n)
	n.NewHostKey()
	n.Restart()
	want(t, first(s.run("remote run true")), Error, "host key", "ssh-keygen")
	n.Stop()
	want(t, first(s.run("remote run true")), Error, "refused", "sshd")
}

func TestAgentDies(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	r, _ := s.run("remote run kill -9 $PPID; sleep 1")
	want(t, r, Error, "the agent ended")
	want(t, first(s.run("remote run true")), OK)
}

func TestMuchOutput(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	for _, host := range []string{"local", "remote"} {
		r, e := s.run(host + " run seq 1 100000; seq 1 100000 >&2")
		want(t, r, OK)
		for stream, lines := range map[string][]string{"out": e.out, "err": e.err} {
			if len(lines) != 100000 {
				t.Fatalf("%s %s: %d lines", host, stream, len(lines))
			}
			for i, line := range lines {
				if line != fmt.Sprint(i+1) {
					t.Fatalf("%s %s: line %d is %q", host, stream, i+1, line)
				}
			}
		}
		if len(r.Output) != maxTail {
			t.Errorf("%d lines are kept", len(r.Output))
		}
	}
}

func TestStrangeOutput(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	for _, host := range []string{"local", "remote"} {
		r, e := s.run(host + ` run printf 'caf\351 \342\202\254\n\033[31mred\a\r\n\nno end'`)
		want(t, r, OK)
		if got := strings.Join(e.out, "|"); got != `caf\xe9 €|\x1b[31mred\x07||no end` {
			t.Errorf("%s: %q", host, got)
		}
		r, e = s.run(host + " run head -c 1000000 /dev/zero | tr '\\000' x; echo")
		want(t, r, OK)
		if got := strings.Join(e.out, ""); len(e.out) < 2 || got != strings.Repeat("x", 1000000) {
			t.Errorf("%s: %d lines, %d bytes", host, len(e.out), len(got))
		}
	}
}

// A child that keeps the output open does not hold up the step.
func TestChildKeepsOutput(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	for _, host := range []string{"local", "remote"} {
		file := filepath.Join(s.bundle.path, host)
		r, e := s.run(host + " run sleep 300 & echo $! > " + host + "; seq 1 20000")
		want(t, r, OK)
		pid := pidIn(t, file)
		if len(e.out) != 20000 || !lives(pid) {
			t.Errorf("%s: %d lines", host, len(e.out))
		}
		if err := kill(pid); err != nil {
			t.Error(err)
		}
	}
}

func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func TestChattyShell(t *testing.T) {
	n := testnode.Start(t)
	// It prints before it starts python, as a login shell does that reads a chatty rc file.
	shell := filepath.Join(n.Home, "chatty")
	script := "#!/bin/sh\necho 'Welcome to node1!'; printf 'no line feed'\nexec " + systemPython + " \"$@\"\n"
	if err := os.WriteFile(shell, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newSiteAgain(t, n, "python = "+shell)
	r, e := s.run("remote run echo hello")
	want(t, r, OK)
	if strings.Join(e.out, "|") != "hello" {
		t.Errorf("%q", e.out)
	}
	for script, part := range map[string]string{
		"echo 'This account is not available.'; exit 1\n": "This account is not available.",
		"yes Welcome\n": "bytes came before",
	} {
		if err := os.WriteFile(shell, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		want(t, first(s.run("remote run echo hello")), Error, part)
	}
}
