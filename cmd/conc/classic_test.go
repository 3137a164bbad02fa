package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// The whole list of examples/classic, from lock to unlock, with real sdists of
// setuptools, pip and a product; halted once on its way.
func TestClassic(t *testing.T) { inBothWays(t, testClassic) }

func testClassic(t *testing.T, wrap []string) {
	text, err := os.ReadFile("../../examples/classic/deploy.ini")
	if err != nil {
		t.Fatal(err)
	}
	deploy := string(text)
	for old, own := range map[string]string{
		`(?m)^admin .*$`:   "admin = USER\nop_key = KEY",
		`(?m)^sshd\.ip.*$`: "sshd.ip = 127.0.0.1\nsshd.port = PORT",
		`(?m)^python .*$`:  "python = /usr/bin/python3",
	} {
		re := regexp.MustCompile(old)
		if len(re.FindAllString(deploy, -1)) != 1 {
			t.Fatalf("examples/classic/deploy.ini: not one line is like %s", old)
		}
		deploy = re.ReplaceAllString(deploy, own)
	}
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", deploy)
	w.wrap = wrap
	if out, err := exec.Command("/usr/bin/python3", "../../examples/classic/make_sdists.py", filepath.Join(w.project, "dist")).CombinedOutput(); err != nil {
		t.Fatalf("make_sdists.py: %v\n%s", err, out)
	}

	halted := w.must(exitOK, "deploy: OK", "run", "node1", "deploy", "--to", "copy")
	if mounts := w.mounts(); len(mounts) == 1 != (wrap == nil) {
		t.Errorf("mounted: %v", mounts)
	}
	rest := w.must(exitOK, "deploy: OK", "run", "node1", "deploy", "--resume")
	var ran []string
	for line := range strings.Lines(halted.stderr + rest.stderr) {
		if m := regexp.MustCompile(`\[\d+/\d+\] (local|remote) (\w+)( '?[a-z]+)?`).FindStringSubmatch(line); m != nil {
			ran = append(ran, m[1]+" "+m[2]+strings.ReplaceAll(m[3], "'", ""))
		}
	}
	if want := []string{
		"remote open", "remote venv", "local open", "local mount", "local copy dist", "remote untar setuptools", "remote setup setuptools",
		"remote untar pip", "remote setup pip", "remote pip almanac", "local unmount", "remote close", "local close",
	}; !slices.Equal(ran, want) {
		t.Errorf("ran  %q\nwant %q", ran, want)
	}
	out, err := exec.Command("ssh", "-F", n.SSHConfig, "node", "venvs/almanac-1.0/bin/almanac 2024-03-01; venvs/almanac-1.0/bin/pip --version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "2024-03-01 is a Friday, day 61 of 2024\npip ") || !strings.Contains(string(out), "venvs/almanac-1.0") {
		t.Errorf("%v\n%s", err, out)
	}
	w.nothingLeft(n, "venvs")
	w.toldOnce()
}
