package coarse_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/coarse"
)

// own is where a process reads its own timer slack (proc(5), since Linux 4.6), in nanoseconds.
const own = "/proc/self/timerslack_ns"

func parse(t *testing.T, b []byte) time.Duration {
	t.Helper()
	ns, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}

func TestStart(t *testing.T) {
	slack := func() time.Duration {
		b, err := os.ReadFile(own)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, b)
	}
	before := slack()
	cmd := exec.Command("cat", own)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := errors.Join(coarse.Start(cmd.Start), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if got := parse(t, out.Bytes()); got != max(before, time.Millisecond) {
		t.Errorf("the program has %v", got)
	}
	if got := slack(); got != before {
		t.Errorf("this process has %v, before %v", got, before)
	}
	if err := coarse.Start(exec.Command("/does/not/exist").Start); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, not the error of the start", err)
	}
}
