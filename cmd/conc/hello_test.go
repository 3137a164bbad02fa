package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// What make demo promises: the example as it is, rehearsed from wheels and from source; the last line
// of standard output is the product's.
func TestDemo(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../examples/hello/deploy.ini")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkstation(t, &testnode.Node{}, remote.Target{}, product(t), string(text))
	const greeting = `^Hello, world! This is hello 1\.4\.2 with Python 3\.\d+\.\S+ on node1\.`
	for list, want := range map[string]string{"install": greeting + ` Greeting number 1\.$`, "source": greeting + "$"} {
		r := w.must(exitOK, "node1 - closed: bundle-hello", "rehearse", "node1", list)
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		if last := lines[len(lines)-1]; !regexp.MustCompile(want).MatchString(last) {
			t.Errorf("%s: the last line is %q", list, last)
		}
	}
}
