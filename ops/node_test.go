package ops

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/bundle"
	"bundlefs/internal/testnode"
)

func TestAgentInPython(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), systemPython, "-B", "-m", "unittest", "agent_test", "audit_test", "steps_test", "untar_test").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A product goes from the workstation into a virtual environment, and its command runs there.
func TestDeployWheel(t *testing.T) {
	for name, options := range map[string][]testnode.Option{"": nil, "ordinary user": {testnode.AsUser()}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, testnode.Start(t, options...))
			s.deliver(wheel(t, "pip"), filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
			r, e := s.run("local copy *.whl", "remote verify --strict", "remote venv", "remote pip hello_conc-*.whl", "remote run hello-conc")
			want(t, r, OK)
			if got := e.out[len(e.out)-1]; got != "hello from the venv" {
				t.Errorf("the command printed %q", got)
			}
			if got := s.bundle.log(); got != "sync drop sync drop sync drop sync drop" {
				t.Errorf("barriers: %s", got)
			}
			if got := strings.Join(e.ended, " "); got != "s1 OK s2 OK s3 OK s4 OK s5 OK" {
				t.Errorf("events: %s", got)
			}
			if len(e.out) != 1 || !strings.Contains(strings.Join(e.results, "\n"), "s4 installed hello-conc-1.0") {
				t.Errorf("pip's output is not in one line: %q %q", e.out, e.results)
			}
			entries, err := os.ReadDir(s.node.Home)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if n := entry.Name(); n != "bundle-1" && n != "venvs" && n != ".ssh" && n != ".conc" {
					t.Errorf("left behind in the home: %s", n)
				}
			}
			// A second run finds what is there.
			r, _ = s.run("local copy *.whl", "remote venv --keep", "remote pip hello-conc==1.0")
			want(t, r, OK, "there already")
			s.write("requirements.txt", "hello-conc==1.0\n")
			r, _ = s.run("local copy requirements.txt", "remote pip --force-reinstall --no-deps -r requirements.txt")
			want(t, r, OK, "hello-conc-1.0")
			s.env.Verbose = true
			r, e = s.run("remote pip --force-reinstall hello-conc")
			want(t, r, OK)
			if !strings.Contains(strings.Join(e.out, "\n"), "Successfully installed hello-conc-1.0") {
				t.Errorf("pip's output is missing: %q", e.out)
			}
		})
	}
}

// An sdist is built by pip on the node, from the bundle alone.
func TestPipSdist(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	sdist, err := filepath.Glob(filepath.Join(dist(t), "hello*.tar.gz"))
	if err != nil || len(sdist) != 1 {
		t.Fatalf("sdist: %v %v", sdist, err)
	}
	s.deliver(wheel(t, "pip"), sdist[0])
	r, _ := s.run("local copy *.whl *.tar.gz", "remote venv", "remote pip hello*.tar.gz")
	want(t, r, Blocked, "building hello", "needs setuptools", "copy step", "local wheel")
	want(t, first(s.run("local copy *.whl *.tar.gz", "remote venv")), OK)
	r, _ = s.run("remote pip hello*.tar.gz") // nobody here knows what the venv has
	want(t, r, Failed, "pip: Could not find", "setuptools", "copy step")
	if !strings.Contains(r.Resume, "conc install node1 --from s1") || !strings.Contains(r.Command, "ssh ") || len(r.Output) == 0 {
		t.Errorf("nothing to go on with: %q %q %q", r.Resume, r.Command, r.Output)
	}
	s.deliver(wheel(t, "setuptools"), wheel(t, "wheel"))
	r, e := s.run("local copy *.whl", "remote pip hello*.tar.gz", "remote run hello-conc")
	want(t, r, OK)
	if e.out[len(e.out)-1] != "hello from the venv" {
		t.Errorf("the command printed %q", e.out)
	}
}

func TestUntarAndSetup(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	sdist, _ := filepath.Glob(filepath.Join(dist(t), "hello*.tar.gz"))
	s.deliver(append(sdist, wheel(t, "pip"), wheel(t, "setuptools"))...)
	r, _ := s.run("local copy *.tar.gz *.whl", "remote venv", "remote setup hello*.tar.gz")
	want(t, r, Failed, "not unpacked", "untar")
	r, _ = s.run("remote untar hello*.tar.gz", "remote setup hello*")
	want(t, r, Failed, "setuptools", "remote pip setuptools-*.whl")
	r, e := s.run("remote pip setuptools-*.whl", "remote setup hello*.tar.gz", "remote run hello-conc")
	want(t, r, OK)
	if e.out[len(e.out)-1] != "hello from the venv" {
		t.Errorf("the command printed %q", e.out)
	}
}

func TestPipWithoutWheel(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	s.deliver(filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
	r, _ := s.run("local copy *.whl", "remote venv")
	want(t, r, OK)
	site, err := filepath.Glob(filepath.Join(s.node.Home, "venvs/v1/lib/python3*/site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatal(site, err)
	}
	// A python without ensurepip, as Debian's without python3-venv.
	without := filepath.Join(site[0], "without.pth")
	if err := os.WriteFile(without, []byte("import sys; sys.modules['ensurepip'] = None\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, _ = s.run("remote pip hello_conc-*.whl")
	want(t, r, Blocked, "no pip wheel in the bundle", "pip-VERSION-py3-none-any.whl")
	if err := os.Remove(without); err != nil {
		t.Fatal(err)
	}
	r, _ = s.run("remote pip hello_conc-*.whl")
	want(t, r, OK, "hello-conc-1.0")
	// The venv's own pip, from now on.
	r, _ = s.run("remote pip hello_conc-*.whl")
	want(t, r, OK, "there already")
}

func TestVenvWithPip(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	r, _ := s.run("remote venv --with-pip", "remote run pip --version")
	want(t, r, OK)
	r, _ = s.run("remote venv")
	want(t, r, Blocked, "--keep", "--clear")
}

func TestLifecycle(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	s.bundle.RemoveRemote(t.Context())
	s.bundle.calls = nil
	s.write("a.txt", "a")
	r, _ := s.run("remote run true")
	want(t, r, Blocked, "bundle-1", "open it first")
	r, _ = s.run("local copy a.txt")
	want(t, r, Blocked, "not mounted", "conc open node1")
	r, _ = s.run("remote open", "local open", "local mount", "local copy a.txt", "local sync", "remote verify", "local unmount", "remote close", "local close")
	want(t, r, OK)
	if got := s.bundle.log(); got != "lock makelocal mount sync sync drop unmount removeremote removelocal" {
		t.Error(got)
	}
	s.bundle.fail["lock"] = &bundle.BlockedError{Node: "node1", Dir: "bundle-1"}
	r, _ = s.run("remote open")
	want(t, r, Blocked, "somebody unknown", "conc unlock node1")
}

func TestEnvironment(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	script := `echo "$CONC_WORD|$CONC_TWO_WORDS_X|$CONC_NAME|$(basename "$PWD")"`
	r, e := s.run("remote run "+script+`; echo "${PATH%%:*}"`, "local run "+script)
	want(t, r, OK)
	line := "a 'b' $c|y|node1|bundle-1"
	if e.out[0] != line || e.out[2] != line || e.out[1] != filepath.Join(s.node.Home, "venvs/v1/bin") {
		t.Errorf("got %q", e.out)
	}
	s.bundle.health = ""
	r, _ = s.run(`local run test "$PWD" = "$CONC_DEPLOY_DIR"`)
	want(t, r, OK)
}

// What Explain gives does the same as the steps, with the OpenSSH client.
func TestExplainedCommandsWork(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	sdist, _ := filepath.Glob(filepath.Join(dist(t), "hello*.tar.gz"))
	s.deliver(append(sdist, wheel(t, "pip"), wheel(t, "setuptools"), filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))...)
	var last string
	for _, step := range steps(t, "local copy *.whl *.tar.gz", "local copy deploy.ini --to a/b", "remote venv", "remote pip setuptools hello_conc-*.whl",
		"remote untar hello*.tar.gz", "remote setup hello*.tar.gz", `local run test -f a/b/deploy.ini`, `remote run hello-conc; echo "$CONC_WORD"`) {
		command := strings.Replace(Explain(step, s.env), "ssh -F none ", "ssh -F "+s.node.SSHConfig+" ", 1)
		command = strings.Replace(command, "@127.0.0.1 ", "@node ", 1)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		last = string(out)
	}
	if last != "hello from the venv\na 'b' $c\n" {
		t.Errorf("got %q", last)
	}
}

// What is typed by hand is as strict as the steps are.
func TestExplainedCommandsRefuse(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	hand := func(line string) (string, error) {
		command := strings.Replace(Explain(steps(t, line)[0], s.env), "ssh -F none ", "ssh -F "+s.node.SSHConfig+" ", 1)
		command = strings.ReplaceAll(command, "@127.0.0.1 ", "@node ")
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		return string(out), err
	}
	must := func(works bool, line string) string {
		t.Helper()
		out, err := hand(line)
		if (err == nil) != works {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		return out
	}
	// Nothing was delivered; then much was, and some of it has changed.
	must(false, "remote verify")
	for i := range 100 {
		s.write(fmt.Sprintf("many/%d", i), fmt.Sprint(i))
	}
	want(t, first(s.run("local copy many")), OK)
	must(true, "remote verify")
	must(true, "remote verify --strict")
	if err := os.WriteFile(s.inBundle("extra"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	must(true, "remote verify")
	must(false, "remote verify --strict")
	if err := os.WriteFile(s.inBundle("many/99"), []byte("98"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := must(false, "remote verify"); !strings.Contains(out, "many/99: FAILED") {
		t.Error(out)
	}
	// Somebody's lock.
	must(false, "remote open")
	must(false, "remote close")
	if err := os.WriteFile(s.inBundle(bundle.RecordName), []byte(`{"user": "somebody", "host": "else"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	must(false, "remote close")
	if err := os.RemoveAll(s.bundle.path); err != nil {
		t.Fatal(err)
	}
	must(true, "remote open")
	data, err := os.ReadFile(s.inBundle(bundle.RecordName))
	if err != nil || !strings.Contains(string(data), `"node": "node1"`) {
		t.Errorf("%s %v", data, err)
	}
	must(true, "remote close")
	if _, err := os.Stat(s.bundle.path); err == nil {
		t.Error("the lock is left")
	}
	// What is at the venv's place.
	venv := filepath.Join(s.node.Home, "venvs/v1")
	if err := os.MkdirAll(filepath.Join(venv, "precious"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{"", " --keep", " --clear"} {
		must(false, "remote venv"+options)
	}
	if _, err := os.Stat(filepath.Join(venv, "precious")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(venv); err != nil {
		t.Fatal(err)
	}
	must(true, "remote venv --keep")
	must(true, "remote venv --keep")
	must(true, "remote venv --clear")
	must(false, "remote venv")
	if err := os.Remove(filepath.Join(venv, "bin/python")); err != nil {
		t.Fatal(err)
	}
	must(false, "remote venv --keep")
}

// One agent serves a run, and has ended with it.
func TestOneAgentARun(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	r, e := s.run("remote run echo $PPID", "remote run echo $PPID")
	want(t, r, OK)
	if len(e.out) != 2 || e.out[0] != e.out[1] {
		t.Errorf("agents: %q", e.out)
	}
	until(t, "the agent has ended", func() bool {
		out, _ := exec.CommandContext(context.Background(), "ps", "-o", "pid=", "-p", e.out[0]).Output()
		return strings.TrimSpace(string(out)) == ""
	})
}
