package ops

import (
	"slices"
	"strings"
	"testing"
)

// testEvents is a TestSink.
type testEvents struct {
	events
	tests []TestResult
}

func (e *testEvents) TestEnded(_ Step, r TestResult) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tests = append(e.tests, r)
}

func TestTest(t *testing.T) {
	s := newApplication(t)
	s.write("suite/__init__.py", "")
	s.write("suite/test_one.py", "import unittest\nclass One(unittest.TestCase):\n    def test_it(self): pass\n")
	s.write("suite/inner/__init__.py", "")
	s.write("suite/inner/nodetests.py", "import unittest\nclass Two(unittest.TestCase):\n    def test_it(self): self.assertIsNone(self.sudoPass)\n")
	s.write("suite/main.py", "raise SystemExit('not to be imported')\n")
	s.write("broken/__init__.py", "")
	s.write("broken/test_import.py", "import nosuchthing\n")
	s.write("broken/test_syntax.py", "def\n")
	s.write("broken/test_leaves.py", "import sys\nsys.exit(0)\n")
	s.write("broken/test_skips.py", "import unittest\nraise unittest.SkipTest('elsewhere')\n")
	s.write("protocol.py", "def load_tests(loader, tests, pattern): raise RuntimeError('no loading')\n")
	s.write("module.py", "import unittest\ndef setUpModule(): raise OSError('no module')\nclass A(unittest.TestCase):\n    def test_it(self): pass\n")
	s.write("empty.py", "")
	for _, host := range []string{"local ", "remote "} {
		for _, c := range []struct {
			args   string
			status Status
			parts  []string
		}{
			{"apptests.Good", OK, []string{"4 tests, 1 skipped, 1 expected failure"}},
			{"apptests.Good.test_writes apptests.Good.test_attributes", OK, []string{"2 tests"}},
			{"apptests.Unwanted", OK, []string{"1 test, 1 skipped"}},
			{"apptests.Bad.test_fails", Failed, []string{"1 of 1 failed: apptests.Bad.test_fails"}},
			{"apptests.Good apptests.Bad", Failed, []string{"6 of 10 failed: apptests.Bad.test_both, ", " and 1 more (1 skipped, 1 expected failure)"}},
			{"apptests.Unready", Failed, []string{"1 of 2 failed: setUpClass (apptests.Unready) (2 not run)"}},
			{"apptests.Crash apptests.Good", Error, []string{"SIGABRT in apptests.Crash.test_crash"}},
			{"apptests.Godo", Blocked, []string{"apptests has no Godo", "did you mean Good?"}},
			{"apptests.Good.test_nothing", Blocked, []string{"Good has no test_nothing"}},
			{"apptests.Good.ncd", Blocked, []string{"apptests.Good.ncd is no test"}},
			{"apptest", Blocked, []string{"no module apptest", "did you mean apptests?"}},
		} {
			r, _ := s.run(host + "test " + c.args)
			want(t, r, c.status, c.parts...)
		}
		if host == "remote " {
			want(t, first(s.run("local copy suite broken protocol.py module.py empty.py --to more")), OK)
		}
		for _, c := range []struct {
			args   string
			status Status
			parts  []string
		}{
			{"suite", OK, []string{"2 tests"}},
			{"suite.inner suite.test_one", OK, []string{"2 tests"}},
			{"broken", Failed, []string{"3 of 4 failed: ", "import (broken.test_import)", "(1 skipped)"}},
			{"broken.test_import", Failed, []string{"1 of 1 failed: import (broken.test_import)"}},
			{"protocol", Failed, []string{"1 of 1 failed: protocol"}},
			{"module", Failed, []string{"1 of 1 failed: setUpModule (module) (1 not run)"}},
			{"empty suite", Failed, []string{"no tests found in empty"}},
		} {
			options := "--path more "
			if host == "local " {
				options = "--path . "
			}
			r, _ := s.run(host + "test " + options + c.args)
			want(t, r, c.status, c.parts...)
		}
	}
	want(t, first(s.run("remote test --from-bundle --path more suite")), OK, "2 tests")
	// Without a bundle, the venv can be tested.
	s.bundle.RemoveRemote(t.Context())
	want(t, first(s.run("remote test apptests.Good")), OK)
	want(t, first(s.run("remote test --from-bundle suite")), Blocked, "no bundle")
}

// Each test is told as it ends, with what there is to know.
func TestTestResults(t *testing.T) {
	s := newApplication(t)
	for _, host := range []string{"local", "remote"} {
		e := &testEvents{}
		r := Run(t.Context(), &s.env, steps(t, host+" test apptests.Good apptests.Bad apptests.Unready"), Options{}, e)
		want(t, r, Failed)
		var got []string
		for _, r := range e.tests {
			line := strings.Join([]string{strings.TrimPrefix(r.ID, "apptests."), string(r.Status), r.Message}, "|")
			if r.Subtest {
				line += "|sub"
			}
			got = append(got, line)
			text := strings.Join(r.Trace, "\n")
			if strings.Contains(text, "conc_") || strings.Contains(text, "unittest/case.py") {
				t.Errorf("%s: frames that are not the application's:\n%s", host, text)
			}
			if r.Status.Bad() && !strings.Contains(text, "apptests.py") && r.Status != TestUnexpectedSuccess && !strings.Contains(r.ID, "subtests") {
				t.Errorf("%s: %s has no traceback: %q", host, r.ID, text)
			}
			if strings.HasSuffix(r.ID, "test_fails") && strings.Join(r.Output, "|") != "written before|by a process" {
				t.Errorf("%s: output %q", host, r.Output)
			}
			if r.Status == TestOK && r.Output != nil {
				t.Errorf("%s: output of a test that is OK: %q", host, r.Output)
			}
		}
		list := []string{
			"Good.test_attributes|ok|", "Good.test_expected|expected failure|AssertionError: None", "Good.test_skipped|skipped|not on this node", "Good.test_writes|ok|",
			"Bad.test_both|error|ZeroDivisionError: division by zero", "Bad.test_fails|failed|AssertionError: 1 != 2", "Bad.test_leaves|error|SystemExit: 0",
			`Bad.test_raises|error|RuntimeError: broken\x1b[31m`,
			"Bad.test_subtests (i=0)|failed|AssertionError: 0 != 1|sub", "Bad.test_subtests (i=2)|failed|AssertionError: 2 != 1|sub", "Bad.test_subtests|failed|2 subtests failed",
			"Bad.test_unexpected|unexpected success|it was expected to fail", "setUpClass (apptests.Unready)|error|OSError: no database",
		}
		if !slices.Equal(got, list) {
			t.Errorf("%s: got\n%s\nwant\n%s", host, strings.Join(got, "\n"), strings.Join(list, "\n"))
		}
		if len(e.out)+len(e.err) > 0 {
			t.Errorf("%s: output %q %q", host, e.out, e.err)
		}
		if !slices.ContainsFunc(e.progress, func(p Progress) bool { return p.What == "apptests.Good.test_attributes" && p.Total == 12 }) {
			t.Errorf("%s: progress %v", host, e.progress)
		}
		// Another sink gets lines.
		_, lines := s.run(host + " test apptests.Good apptests.Bad")
		if len(lines.out) != 4 || lines.out[2] != "skipped  apptests.Good.test_skipped: not on this node" || !slices.Contains(lines.err, "    | by a process") ||
			!slices.ContainsFunc(lines.err, func(l string) bool {
				return strings.HasPrefix(l, "FAILED   apptests.Bad.test_fails") && strings.HasSuffix(l, ": AssertionError: 1 != 2")
			}) {
			t.Errorf("%s: %q\n%q", host, lines.out, lines.err)
		}
	}
}
