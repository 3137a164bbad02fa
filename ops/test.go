package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// testOp runs unittest cases of the application.
type testOp struct {
	childStep
	tests []string
}

func parseTest(host Host, a *arguments) (operation, error) {
	c, err := parseChild(host, a)
	if err != nil {
		return nil, err
	}
	if len(a.words) == 0 {
		return nil, errors.New("needs a module")
	}
	for _, word := range a.words {
		if !moduleName.MatchString(word) {
			return nil, &ArgError{fmt.Sprintf("%q is no name of a module, class or method", word), "write dotted names, such as hello.devops.nodetests"}
		}
	}
	return testOp{c, a.words}, nil
}

func (o testOp) run(ctx context.Context, t *task) Result {
	return o.call(ctx, t, "test", "conc_unittest", map[string]any{"tests": o.tests})
}

func (o testOp) explain(env *Env, _ *Step) string {
	line := o.childStep.explain(env, `import json, sys, unittest; ncd, sudo = json.loads(sys.argv[1]), `+o.passwordByHand()+`; `+
		`s = [unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:])]; `+
		`[s.extend(t) if isinstance(t, unittest.TestSuite) else (setattr(type(t), "ncd", ncd), setattr(type(t), "sudoPass", sudo)) for t in s]; `+
		`sys.exit(s[0].countTestCases() == 0 or not unittest.TextTestRunner(verbosity=2).run(s[0]).wasSuccessful())`, o.tests...)
	if o.host == Remote && !o.bundle && len(o.path) == 0 { // it works without a bundle, too
		line = strings.Replace(line, "cd "+env.Bundle.Dir()+" && ", "cd "+env.Bundle.Dir()+" 2>/dev/null; ", 1)
	}
	return line
}

// TestStatus is how a test ended.
type TestStatus string

// The statuses of tests.
const (
	TestOK                TestStatus = "ok"
	TestFailed            TestStatus = "failed"
	TestError             TestStatus = "error"
	TestSkipped           TestStatus = "skipped"
	TestExpectedFailure   TestStatus = "expected failure"
	TestUnexpectedSuccess TestStatus = "unexpected success"
)

// Bad tells whether it makes the step FAILED.
func (s TestStatus) Bad() bool {
	return s == TestFailed || s == TestError || s == TestUnexpectedSuccess
}

// TestResult is how a test of a test step ended. Its texts have no control characters.
type TestResult struct {
	ID      string        `json:"id"` // such as hello.devops.nodetests.Installed.test_release, or setUpClass (…)
	Status  TestStatus    `json:"status"`
	Elapsed time.Duration `json:"elapsed"`           // nanoseconds
	Message string        `json:"message,omitempty"` // one line: the exception, or why it was skipped
	Trace   []string      `json:"trace,omitempty"`   // lines of the traceback
	Output  []string      `json:"output,omitempty"`  // what it wrote, when it is bad
	// Subtest: a subtest that is not OK. The test that it is of comes after it and counts.
	Subtest bool `json:"subtest,omitempty"`
}

// Lines are the result for people: one line, and what there is to know of a test that is bad.
func (r TestResult) Lines() []string {
	status := string(r.Status)
	if r.Status.Bad() {
		status = strings.ToUpper(status)
	}
	line := fmt.Sprintf("%-8s %s", status, r.ID)
	if r.Elapsed >= time.Millisecond {
		line += fmt.Sprintf(" (%.3f s)", r.Elapsed.Seconds())
	}
	if r.Message != "" {
		line += ": " + r.Message
	}
	lines := []string{line}
	for _, l := range r.Trace {
		lines = append(lines, "    "+l)
	}
	for _, l := range r.Output {
		lines = append(lines, "    | "+l)
	}
	return lines
}

// TestSink is a Sink that takes the results of tests one by one; another one
// gets their lines as output.
type TestSink interface {
	Sink
	TestEnded(step Step, r TestResult)
}

// childTest is a TestResult as the child gives it.
type childTest struct {
	ID      string     `json:"id"`
	Status  TestStatus `json:"status"`
	Seconds float64    `json:"seconds"`
	Message string     `json:"message"`
	Trace   string     `json:"trace"`
	Output  string     `json:"output"`
	Sub     bool       `json:"sub"`
}

// test hands a test's result on.
func (t *task) test(c *childTest) {
	lines := func(text string) []string {
		text = strings.TrimRight(text, "\n")
		if text == "" {
			return nil
		}
		list := strings.Split(text, "\n")
		for i := range list {
			list[i] = visible(list[i])
		}
		return list
	}
	r := TestResult{
		ID: visible(c.ID), Status: c.Status, Elapsed: time.Duration(c.Seconds * float64(time.Second)),
		Message: visible(c.Message), Trace: lines(c.Trace), Output: lines(c.Output), Subtest: c.Sub,
	}
	sink, takes := t.work.sink.(TestSink)
	if !takes {
		stream := Stdout
		if r.Status.Bad() {
			stream = Stderr
		}
		t.output(stream, r.Lines())
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(r.Lines()...)
	sink.TestEnded(*t.step, r)
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
