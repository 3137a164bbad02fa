package fs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/internal/testnode"
)

// How often programs wait for the node over a slow link in shared mode, with the timeouts of
// the product. sshfs takes 266 round trips for this copying, 184 for the one over what is there, 76 and 77
// for the removing.
func TestRoundTripsOfPrograms(t *testing.T) {
	const rtt, folders, files = 50 * time.Millisecond, 3, 20
	n := testnode.Start(t)
	l := testnode.NewLink(t, n.Addr)
	source := filepath.Join(t.TempDir(), "source")
	for i := range folders {
		dir := filepath.Join(source, fmt.Sprintf("d%02d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			write(t, filepath.Join(dir, fmt.Sprintf("f%02d", j)), "some text")
		}
	}
	m := newMount(t, n, n.TargetVia(l))
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	run("cp", "-r", source, filepath.Join(m.Node, "cold"))
	l.SetRTT(rtt)
	at := func() int64 { return l.Counters().RoundTrips[0] } // of the only connection
	for _, c := range []struct {
		what string
		most int64
		args []string
	}{
		// Two a file, one a folder, and 4 for the first name.
		{"copying", folders*(2*files+1) + 4, []string{"cp", "-r", source, filepath.Join(m.Dir, "copy")}},
		// The first names of a folder are asked for one by one.
		{"copying over it", folders*(2*files+3) + 4, []string{"cp", "-r", source + "/.", filepath.Join(m.Dir, "copy")}},
		// One a name, and 5 for the first folders' names and listings.
		{"removing what was copied", folders*(files+1) + 1 + 5, []string{"rm", "-r", filepath.Join(m.Dir, "copy")}},
		{"removing what was there", folders*(files+1) + 1 + 6, []string{"rm", "-r", filepath.Join(m.Dir, "cold")}},
	} {
		before := at()
		run(c.args[0], c.args[1:]...)
		got := at() - before
		t.Logf("%s takes %d round trips, expected %d", c.what, got, c.most)
		// What is asked behind counts too where it is in a row with what is waited for.
		if slack := c.most / 10; got > c.most+slack {
			t.Errorf("%s takes %d round trips, more than %d", c.what, got, c.most+slack)
		}
	}
	for _, name := range []string{"copy", "cold"} {
		if _, err := os.Lstat(filepath.Join(m.Node, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}
