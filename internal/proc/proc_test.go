package proc

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProcess(t *testing.T) {
	const mark = "PROC_TEST_MARK=7c1d"
	cmd := exec.Command("sleep", "1000")
	cmd.Env = []string{"OTHER=1", mark}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	isIt := func(p Process) bool { return p.PID == pid }
	p, ok := Read(pid)
	if !ok || p.Parent != os.Getpid() || p.Name != "sleep" || !p.Alive() {
		t.Errorf("read %+v, %v", p, ok)
	}
	if !strings.HasSuffix(p.String(), "sleep 1000") {
		t.Errorf("shown as %q", p)
	}
	if !slices.ContainsFunc(Below(os.Getpid()), isIt) {
		t.Error("not among the descendants")
	}
	if found := Marked(mark); len(found) != 1 || !isIt(found[0]) {
		t.Errorf("marked: %v", found)
	}
	if found := Marked(mark[:len(mark)-1]); len(found) != 0 {
		t.Errorf("part of the mark: %v", found)
	}

	other := p
	other.Start++ // as if the number had been given to another process
	other.Signal(unix.SIGKILL)
	if other.Alive() || len(Living([]Process{p, other})) != 1 {
		t.Error("taken for the earlier process")
	}
	p.Signal(unix.SIGTERM)
	err := cmd.Wait()
	if status := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); err == nil || status.Signal() != unix.SIGTERM {
		t.Errorf("ended with %v", err)
	}
	if p.Alive() {
		t.Error("alive after its end")
	}
	p.Signal(unix.SIGTERM) // does nothing
}

func TestNameMayHoldAnything(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/bin/sleep", dir+"/a) S (b"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/a) S (b", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if p, ok := Read(cmd.Process.Pid); !ok || p.Name != "a) S (b" || p.Parent != os.Getpid() {
		t.Errorf("read %+v, %v", p, ok)
	}
}
