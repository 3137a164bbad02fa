package coarse_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/coarse"
)

// slackOf is the timer slack of the first thread of a process.
func slackOf(t *testing.T, process string) (d time.Duration) {
	t.Helper()
	b, err := os.ReadFile("/proc/" + process + "/timerslack_ns")
	if err != nil {
		t.Skip(err) // proc(5): since Linux 4.6
	}
	if _, err := fmt.Sscan(string(b), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStart(t *testing.T) {
	before := slackOf(t, "self")
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := coarse.Start(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if got := slackOf(t, fmt.Sprint(cmd.Process.Pid)); got != max(before, time.Millisecond) {
		t.Errorf("the program has %v", got)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := slackOf(t, "self"); got != before {
		t.Errorf("this process has %v, before %v", got, before)
	}
	if err := coarse.Start(exec.Command("/does/not/exist").Start); err == nil || !strings.Contains(err.Error(), "exist") {
		t.Errorf("%v, not the error of the start", err)
	}
}
