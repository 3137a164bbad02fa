package ops

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// Each step leaves a line in the node's log, whether the agent did it or not, and no secret is in it.
func TestAudit(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	s.write("a.txt", "a")
	r, _ := s.run("local copy a.txt", "remote run echo s3cret", "remote run exit 3")
	want(t, r, Failed)
	s.bundle.RemoveRemote(t.Context())
	want(t, first(s.run("remote open", "local mount", "remote run --timeout 200ms sleep 300")), TimedOut)
	want(t, first(s.run("remote run true", "remote close")), OK)
	file := filepath.Join(s.node.Home, ".conc", "log")
	var text string
	until(t, "the last line", func() bool {
		data, err := os.ReadFile(file)
		text = string(data)
		return err == nil && strings.Contains(text, `op="remote close"`)
	})
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\S+@\S+) deploy=(\S+) node=node1 list=install step=(s\d) op="(.*)" status=(\S+|"TIMED OUT")$`)
	var got []string
	for l := range strings.Lines(text) {
		m := line.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			t.Errorf("line %q", l)
			continue
		}
		if m[1] != whoami() || m[2] != s.env.Dir {
			t.Errorf("by %s with %s", m[1], m[2])
		}
		got = append(got, m[3]+" "+m[4]+" "+m[5])
	}
	want := []string{
		"s1 local copy OK", "s2 remote run OK", "s3 remote run FAILED", "s1 remote open OK", "s2 local mount OK", `s3 remote run "TIMED OUT"`,
		"s1 remote run OK", "s2 remote close OK",
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if strings.Contains(text, "s3cret") || strings.Contains(text, "sleep") {
		t.Errorf("arguments are in the log:\n%s", text)
	}
}
