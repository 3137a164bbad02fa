package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// The agent starts while what comes before the first remote step is done: a local step sees it. It
// ends with the run, also when the run halts before any step has needed it, and one that could not
// be started so early is no matter to those.
func TestAgentStartsAhead(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	dir := t.TempDir()
	python, started := filepath.Join(dir, "python"), filepath.Join(dir, "started")
	script := fmt.Sprintf("#!/bin/sh\n: >%s\nexec /usr/bin/python3 \"$@\"\n", started)
	if err := os.WriteFile(python, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	wait := "here = local run --timeout 2m until test -e " + started + "; do sleep 0.02; done"
	deploy := strings.Replace(helloDeploy, "/usr/bin/python3", python, 1) +
		"\n[jobs:on]\n" + wait + "\nthere = remote run echo hello\n\n[jobs:halts]\n" + wait + "\nfails = local run false\nthere = remote run touch ../begun\n"
	w := newWorkstation(t, n, n.Target(), "", deploy)
	w.must(exitOK, "is mounted on", "open", "node1")
	w.must(exitOK, "hello", "run", "node1", "on")
	if err := os.Remove(started); err != nil {
		t.Fatal(err)
	}
	w.must(exitFailed, "fails: FAILED", "run", "node1", "halts")
	for _, p := range n.Processes() {
		if strings.Contains(p, "conc-agent-") {
			t.Errorf("still on the node: %s", p)
		}
	}
	if err := os.WriteFile(python, []byte("#!/bin/sh\n: >"+started+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.must(exitFailed, "fails: FAILED", "run", "node1", "halts")
	w.must(exitError, "the agent did not start", "run", "node1", "on")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}
