package ops

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bundlefs/bundle"
	"bundlefs/internal/testnode"
	"bundlefs/internal/wheelcache"
)

// script gives what runs the script of a list, with the OpenSSH programs.
func (s *site) script(list []Step) func(args ...string) (string, error) {
	s.t.Helper()
	dir := s.t.TempDir()
	file := filepath.Join(dir, "plan.sh")
	if err := os.WriteFile(file, []byte(Script(&s.env, "install", list)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	// The programs read the configuration in the account's home, and not in $HOME.
	for _, name := range []string{"ssh", "scp"} {
		real, err := exec.LookPath(name)
		if err != nil {
			s.t.Fatal(err)
		}
		// The first -F holds: the script's own says that there is none.
		text := "#!/bin/sh\nexec " + real + " -o UserKnownHostsFile=" + s.node.KnownHosts + " -o IdentitiesOnly=yes \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(s.t.Context(), "sh", append([]string{file}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":/usr/bin:/bin")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// A script of a plan does the same as the run, with ssh and scp.
func TestScript(t *testing.T) {
	n := testnode.Start(t)
	s := newSite(t, n)
	if err := os.Remove(s.bundle.path); err != nil {
		t.Fatal(err)
	}
	s.deliver(wheel(t, "pip"), filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
	s.write("it's ü.txt", "x")
	list := steps(t, "local copy *.whl *.txt --to .", "remote verify --strict", "remote venv", "remote pip hello_conc-*.whl",
		"remote run test -e mended && hello-conc > \"out 'of' it\"", "remote run cat \"out 'of' it\"; cp *.txt out* ..")
	run := s.script(list)
	out, err := run()
	if err == nil || !strings.Contains(out, "step s5: FAILED with exit code 1") || !strings.Contains(out, "'s5'") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(s.bundle.path, bundle.RecordName)); err != nil {
		t.Error(err)
	}
	if out, err := run(); err == nil || !strings.Contains(out, "somebody holds the lock") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(s.bundle.path, "mended"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err = run("s5"); err != nil || strings.Contains(out, "== s4") || !strings.Contains(out, "== s6") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(s.bundle.path); err == nil {
		t.Error("the lock is left")
	}
	for _, name := range []string{"it's ü.txt", "out 'of' it", "venvs/v1/bin/hello-conc"} {
		if _, err := os.Stat(filepath.Join(n.Home, name)); err != nil {
			t.Error(err)
		}
	}
}

// state is what there is in the node's home that matters: the bundle's files, links, and what is installed.
func (s *site) state() (lines []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.node.Home, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.node.Home, path)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(name, "/")
		switch {
		case top == ".ssh", top == ".conc", e.Name() == "__pycache__":
			if e.IsDir() {
				return filepath.SkipDir
			}
		case e.Name() == bundle.RecordName:
		case e.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			lines = append(lines, name+" -> "+target)
			return err
		case top == "venvs" || e.IsDir():
			if strings.Count(name, "/") < 7 && !strings.Contains(name, ".dist-info/") { // which tells of the installer
				lines = append(lines, name)
			}
		default:
			sum, err := wheelcache.Sum(path)
			if err != nil {
				return err
			}
			lines = append(lines, name+" "+sum)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// clear makes the node as it was before.
func (s *site) clear(bundleToo bool) {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.node.Home, "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range list {
		if err := os.RemoveAll(path); err != nil {
			s.t.Fatal(err)
		}
	}
	s.bundle.manifest = nil
	if bundleToo {
		return
	}
	if err := os.Mkdir(s.bundle.path, 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// Scripts leave a node as conc does, up to a step at which both halt, and go on from there.
func TestScriptIsTheSame(t *testing.T) {
	wheelSite(t)
	hello := filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl")
	for name, c := range map[string]struct {
		prepare func(s *site)
		lines   []string
		from    []string // a script goes on with these, after stop steps
		rest    string   // and with this one, after the step that fails
	}{
		"classic": {func(s *site) {
			if out, err := exec.Command(systemPython, "../examples/classic/make_sdists.py", filepath.Join(s.env.Dir, "dist")).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}, []string{"remote open", "remote venv", "local open", "local mount", "local copy dist/*.tar.gz", "remote untar setuptools-*.tar.gz", "remote setup setuptools-*.tar.gz",
			"remote untar pip-*.tar.gz", "remote setup pip-*.tar.gz", "remote pip almanac-*.tar.gz", "remote run exit 1", "local unmount", "remote close", "local close"}, nil, "s12"},
		"wheels": {func(s *site) {
			s.deliver(wheel(t, "pip"), wheel(t, "setuptools"), wheel(t, "wheel"))
			sdist(t, s.env.Dir, "one-1.0", project("one", "1.0", ""))
		}, []string{"local wheel *.tar.gz pip-*.whl --to .", "local wheel pip*.whl --to sub/dir", "remote verify --strict", "remote venv", "remote pip one-*.whl --no-compile",
			"remote run exit 1"}, nil, ""},
		"own code": {func(s *site) {
			s.deliver(hello, wheel(t, "pip"))
			for _, file := range []string{"application", "apptests"} {
				data, err := os.ReadFile(filepath.Join("testdata", file+".py"))
				if err != nil {
					t.Fatal(err)
				}
				s.write("src/"+file+".py", string(data))
			}
		}, []string{"local copy src *.whl", "remote venv", "remote pip hello_conc-*.whl", "remote pip hello-conc", "remote stop look at it", "remote python --path src application:nothing",
			"local python --path src application:nothing", "remote test --path src apptests.Good", "remote test --from-bundle --path src apptests.Good.test_attributes",
			"remote link now venvs/v1", "remote link now bundle-1", "remote run --timeout 60s touch made; sleep 0", "remote python --path src application:Returns.failed"}, []string{"s6"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, testnode.Start(t))
			c.prepare(s)
			list := steps(t, c.lines...)
			whole := list[0].Op == "open"
			s.clear(whole)
			if whole {
				s.bundle.health = ""
			}
			var r Result
			for _, from := range append([]string{""}, c.from...) {
				r = Run(t.Context(), &s.env, list, Options{From: from}, &events{})
			}
			want(t, r, Failed)
			state := s.state()
			s.clear(true)
			run := s.script(list)
			for range c.from {
				if out, err := run(); err != nil || !strings.Contains(out, "STOPPED") {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			out, err := run(c.from...)
			if err == nil || !strings.Contains(out, "step "+r.Step+": FAILED") {
				t.Fatalf("%v, want step %s to fail\n%s", err, r.Step, out)
			}
			if got := s.state(); !slices.Equal(got, state) {
				for _, line := range append(slices.Clone(got), state...) {
					if !slices.Contains(state, line) {
						t.Errorf("by the script only: %s", line)
					} else if !slices.Contains(got, line) {
						t.Errorf("by conc only: %s", line)
					}
				}
			}
			if c.rest == "" {
				return
			}
			if out, err := run(c.rest); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if _, err := os.Stat(s.bundle.path); err == nil {
				t.Error("the lock is left")
			}
		})
	}
}
