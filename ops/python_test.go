package ops

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// newApplication gives a site whose venv, and deploy.ini's folder, have the
// modules in testdata.
func newApplication(t *testing.T, options ...testnode.Option) *site {
	t.Helper()
	s := newSite(t, testnode.Start(t, options...))
	want(t, first(s.run("remote venv")), OK)
	packages, err := filepath.Glob(filepath.Join(s.node.Home, "venvs/v1/lib/python3*/site-packages"))
	if err != nil || len(packages) != 1 {
		t.Fatal(packages, err)
	}
	for _, name := range []string{"application.py", "apptests.py"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{packages[0], s.env.Dir} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func TestPython(t *testing.T) {
	s := newApplication(t)
	for _, host := range []string{"local ", "remote "} {
		for _, c := range []struct {
			args   string
			status Status
			parts  []string
		}{
			{"application:Returns.ok", OK, nil},
			{"application:Returns.true", OK, nil},
			{"application:leave", OK, nil},
			{"--ok-codes 0,2 application:leave2", OK, nil},
			{"application:thread", OK, nil},
			{"application:forks", OK, nil},
			{"application:Returns.blocked", Blocked, []string{"application:Returns.blocked returned BLOCKED"}},
			{"application:Returns.enum", Blocked, []string{"returned BLOCKED"}},
			{"applicaton:nothing", Blocked, []string{"no module applicaton", "did you mean application?"}},
			{"application.more:nothing", Blocked, []string{"no module application.more"}},
			{"application:nothin", Blocked, []string{"application has no nothin", "did you mean nothing?"}},
			{"application:Returns.okay", Blocked, []string{"application.Returns has no okay", "did you mean ok?"}},
			{"application:Status.OK", Blocked, []string{"is no function but Status"}},
			{"application:wrong", Blocked, []string{"application:wrong takes (ncd)", "f(ncd, sudoPass)"}},
			{"application:Returns.false", Failed, []string{"returned False"}},
			{"application:Returns.failed", Failed, []string{"3 rows are left"}},
			{"application:Returns.lines", Failed, []string{"one"}},
			{"application:asserts", Failed, []string{"AssertionError: this is node1"}},
			{"application:leave2", Failed, []string{"exit status 2"}},
			{"application:leaveText", Failed, []string{"the database is gone"}},
			{"application:Returns.stopped", Stopped, []string{"look at it first"}},
			{"application:Returns.late", TimedOut, []string{"returned TIMED OUT"}},
			{"application:raises", Error, []string{"RuntimeError: the schema is unknown"}},
			{"application:Returns.error", Error, []string{"returned ERROR"}},
			{"application:Returns.number", Error, []string{"returned 7, which is no status", `"BLOCKED"`}},
			{"application:Returns.word", Error, []string{"returned 'FINE'"}},
			{"application:Returns.long", Error, []string{"xxx..."}},
			{"application:hard", Error, []string{"exit status 0 before the code had returned"}},
			{"application:segfault", Error, []string{"SIGSEGV"}},
			{"application:killed", Error, []string{"SIGKILL"}},
			{"application:crashLate", Error, []string{"exit status 9 after the code had returned"}},
		} {
			r, e := s.run(host + "python " + c.args)
			want(t, r, c.status, c.parts...)
			said := strings.Join(append(e.out, e.err...), "\n")
			switch c.args {
			case "application:raises":
				for _, part := range []string{"KeyError: 'schema'", "direct cause", "in raises", "ask somebody"} {
					if !strings.Contains(said, part) {
						t.Errorf("%slacks %q:\n%s", host, part, said)
					}
				}
				if strings.Contains(said, "conc_") || !slices.Equal(r.Output, append(e.out, e.err...)) {
					t.Errorf("%sthe traceback is not the application's: %q", host, said)
				}
			case "application:segfault":
				if !strings.Contains(said, "in segfault") {
					t.Errorf("%sno traceback of the crash: %q", host, said)
				}
			case "application:Returns.stopped":
				if r.Interrupted || r.Resume != "conc install node1 --from s1" {
					t.Errorf("%s%+v", host, r)
				}
			case "application:leave2":
				if r.ExitCode != 2 {
					t.Errorf("%s%+v", host, r)
				}
			}
		}
	}
}

func TestPythonSurroundings(t *testing.T) {
	s := newApplication(t, testnode.AsUser())
	t.Setenv("PYTHONPATH", filepath.Join(t.TempDir(), "secret"))
	r, e := s.run("remote python application:nothing")
	want(t, r, OK)
	if strings.Join(e.out, "|") != "node1 a 'b' $c None bundle-1 False|stdin is at its end: ''" || strings.Join(e.err, "|") != "err" {
		t.Errorf("%q %q", e.out, e.err)
	}
	r, e = s.run("local python application:nothing")
	want(t, r, OK)
	if strings.Join(e.out, "|") != "node1 a 'b' $c None "+filepath.Base(s.env.Dir)+" False|stdin is at its end: ''" {
		t.Errorf("%q", e.out)
	}
	r, e = s.run("remote python application:environment")
	want(t, r, OK)
	if strings.Join(e.out, "|") != filepath.Join(s.node.Home, "venvs/v1/bin")+"|['PYTHONUNBUFFERED']" {
		t.Errorf("%q", e.out)
	}
	for _, host := range []string{"local", "remote"} {
		r, e := s.run(host + " python application:progress")
		want(t, r, OK)
		if !slices.ContainsFunc(e.progress, func(p Progress) bool { return p.What == "rows" && p.Done == 3 && p.Total == 3 }) {
			t.Errorf("%s: %v", host, e.progress)
		}
		r, e = s.run(host + " python application:much")
		want(t, r, OK)
		if len(e.out) != 100000 || e.out[99999] != "99999 "+strings.Repeat("x", 40) {
			t.Errorf("%s: %d lines", host, len(e.out))
		}
		r, e = s.run(host + " python application:child")
		want(t, r, OK)
		if pid, err := strconv.Atoi(e.out[0]); err != nil || !lives(pid) {
			t.Errorf("%s: %q", host, e.out)
		} else if err := kill(pid); err != nil {
			t.Error(err)
		}
	}
}

// The password reaches the function, and nothing else.
func TestPythonSudo(t *testing.T) {
	if !asRoot(t) {
		return
	}
	s := newApplication(t, testnode.WithSudo(allRules))
	t.Cleanup(s.env.Forget)
	want(t, first(s.run("remote python --sudo application:secret")), Blocked, "wants a password", "nobody to ask")
	asked := 0
	s.env.SudoPassword = func(context.Context) ([]byte, error) { asked++; return []byte("wrong"), nil }
	want(t, first(s.run("remote python --sudo application:secret")), Blocked, "wrong sudo password")
	s.env.SudoPassword = func(context.Context) ([]byte, error) { asked++; return []byte(testnode.SudoPassword), nil }
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(testnode.SudoPassword)))
	r, e := s.run("remote python --sudo application:secret", "local python --sudo application:secret", "remote python application:noSecret")
	want(t, r, OK)
	if strings.Join(e.out, "|") != digest+" False|"+digest+" False|None" || asked != 2 {
		t.Errorf("%q, asked %d times", e.out, asked)
	}
	s = newApplication(t, testnode.WithSudo("USER ALL=(ALL) NOPASSWD: ALL"))
	t.Cleanup(s.env.Forget)
	want(t, first(s.run("remote python --sudo application:noSecret")), OK)
}

// A function that hangs is killed, on either host.
func TestPythonStops(t *testing.T) {
	s := newApplication(t)
	for host, dir := range map[string]string{"local": s.env.Dir, "remote": s.bundle.path} {
		file := filepath.Join(dir, "pid")
		want(t, first(s.run(host+" python --timeout 3s application:hangs")), TimedOut, "not done in 3s")
		if pid := pidIn(t, file); lives(pid) {
			t.Errorf("%s: process %d is left", host, pid)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := s.runWith(ctx, &events{onOutput: func(string) { cancel() }}, host+" python application:hangs")
		want(t, r, Stopped, "interrupted")
		if pid := pidIn(t, file); lives(pid) || !r.Interrupted {
			t.Errorf("%s: process %d is left, %+v", host, pid, r)
		}
	}
	// Without what it needs.
	if err := os.RemoveAll(filepath.Join(s.node.Home, "venvs/v1")); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("remote python application:nothing")), Blocked, "no virtual environment")
	t.Setenv("PATH", t.TempDir())
	want(t, first(s.run("local python application:nothing")), Blocked, "no python3 on the workstation")
}

// The application straight out of the bundle, and out of folders.
func TestPythonPath(t *testing.T) {
	s := newApplication(t)
	s.write("src/deep/inner.py", "def f(ncd, sudoPass):\n    print('inner')\n")
	s.write("src/deep/needs.py", "import nosuchthing\n")
	s.write("src/deep/broken.py", "1 / 0\n")
	s.deliver(filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
	r, e := s.run("local python --path src deep.inner:f", "local copy src *.whl", "remote python --path src deep.inner:f", "remote python --from-bundle --path src deep.inner:f")
	want(t, r, OK)
	if strings.Join(e.out, "|") != "inner|inner|inner" {
		t.Errorf("%q", e.out)
	}
	want(t, first(s.run("remote python --path src deep.iner:f")), Blocked, "no module deep.iner", "did you mean deep.inner?")
	want(t, first(s.run("remote python --path src deep.needs:f")), Blocked, "deep.needs needs the module nosuchthing")
	want(t, first(s.run("local python --path src deep.broken:f")), Error, "ZeroDivisionError")
	want(t, first(s.run("remote python --from-bundle hello_conc:nosuch")), Blocked, "hello_conc has no nosuch")
}

// What Explain gives does the same as the steps.
func TestExplainedPythonWorks(t *testing.T) {
	s := newApplication(t)
	s.deliver(filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
	want(t, first(s.run("local copy *.whl *.py --to lib", "local copy *.whl *.py", "remote run mkdir -p ../venvs/v2")), OK)
	for line, part := range map[string]string{
		"remote python application:nothing":                  "node1 a 'b' $c None bundle-1 False\n",
		"local python application:nothing":                   "node1 a 'b' $c None ",
		"remote python application:progress":                 "rows 3 3\n",
		"remote python --path lib application:Returns.true":  "",
		"remote python --from-bundle application:Returns.ok": "",
		"remote test apptests.Good":                          "expected failures=1",
		"remote test --from-bundle apptests.Good":            "expected failures=1",
		"remote link deep/current venvs/v1":                  "",
		"remote link deep/current venvs/v2":                  "",
		"! remote python application:Returns.blocked":        "BLOCKED",
		"! remote python application:raises":                 "the schema is unknown",
		"! remote test apptests.Bad":                         "FAILED",
		"! remote link lib venvs/none":                       "",
	} {
		line, fails := strings.CutPrefix(line, "! ")
		command := strings.Replace(Explain(steps(t, line)[0], s.env), "ssh -F none ", "ssh -F "+s.node.SSHConfig+" ", 1)
		command = strings.Replace(command, "@127.0.0.1 ", "@node ", 1)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if (err != nil) != fails || !strings.Contains(string(out), part) {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	if to, err := os.Readlink(filepath.Join(s.node.Home, "deep/current")); err != nil || !strings.HasPrefix(to, "../venvs/v") {
		t.Error(to, err)
	}
}
