package bundle

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/proc"
)

const testLease = "0123456789abcdef0123456789abcdef"

// endIn runs end_steps with a shell in a home, and gives what is left. before comes before it.
func endIn(t *testing.T, shell, home, before, leave string) []Survivor {
	t.Helper()
	words := append(strings.Fields(shell), "-c", scriptHead+endSteps+before+`
if end_steps "$1" "$2"; then say ended; else say left; echo "$left"; fi
finish`, "sh", "mark", testLease, leave)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	out, err := cmd.Output()
	_, answer, ok := strings.Cut(string(out), "=mark ")
	if err != nil || !ok || !strings.HasSuffix(answer, "\n=mark end\n") {
		t.Fatalf("%s: %v\n%s", shell, err, out)
	}
	first, body, _ := strings.Cut(answer, "\n")
	left := survivors([]byte(strings.TrimSuffix(body, "=mark end\n")))
	if (first == "left") != (len(left) > 0) {
		t.Fatalf("answer %q", answer)
	}
	return left
}

// named starts a process with a child in a session of its own, as an agent has it, and names it in a home.
func named(t *testing.T, home, kind string) []proc.Process {
	t.Helper()
	// The parent ends as soon as the child runs: of the two only the mark tells.
	cmd := exec.Command("sh", "-c", `trap "" HUP TERM; setsid sh -c 'trap "" HUP TERM; echo $$; while :; do sleep 0.1; done' & wait`)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d-%s", stepVariable, os.Getpid(), kind))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Not what descends from them: a shell has copies of itself for a moment.
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	inner, there := proc.Read(child)
	self, ok := proc.Read(cmd.Process.Pid)
	if !ok || !there {
		t.Fatal("it does not run")
	}
	all := []proc.Process{inner, self}
	t.Cleanup(func() {
		for _, p := range all {
			p.Signal(9)
		}
		out.Close()
		cmd.Wait()
	})
	// The test is the agent, but may not be ended: its start is not the named one.
	touch(t, filepath.Join(home, fmt.Sprintf("%s%s-%d-1-%s", stepPrefix, testLease, os.Getpid(), kind)))
	return all
}

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a dead agent has left is found by its mark and ended, in each shell that a node may have; names that
// are not ours, or of processes that are others by now, do no harm.
func TestEndSteps(t *testing.T) {
	t.Parallel()
	shells := []string{"sh"}
	for _, more := range []string{"bash --posix", "bash", "dash", "busybox sh", "ksh", "mksh", "zsh --emulate sh"} {
		if _, err := exec.LookPath(strings.Fields(more)[0]); err == nil {
			shells = append(shells, more)
		}
	}
	for i, shell := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			if left := endIn(t, shell, home, "", ""); len(left) > 0 {
				t.Errorf("without names: %v", left)
			}
			all := named(t, home, fmt.Sprintf("abc%d", i))
			other := filepath.Join(home, stepPrefix+strings.Repeat("f", 32)+"-1-1-aa")
			touch(t, other)
			init, _ := proc.Read(1)
			for _, name := range []string{
				fmt.Sprintf("1-%d-left", init.Start), fmt.Sprintf("%d-7-left", os.Getppid()), "0-0-left", "-1-1-aa", "x", "1-1-a*b", "1-1-a b", "1-$(kill 1)-aa",
			} {
				touch(t, filepath.Join(home, stepPrefix+testLease+"-"+name))
			}
			if err := os.Symlink("/", filepath.Join(home, stepPrefix+testLease+"-2-2-bb")); err != nil {
				t.Fatal(err)
			}
			if left := endIn(t, shell, home, "", ""); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if left := proc.Living(all); len(left) > 0 {
				t.Errorf("these run: %v", left)
			}
			names, _ := filepath.Glob(filepath.Join(home, stepPrefix+"*"))
			if len(names) != 1 || names[0] != other {
				t.Errorf("names: %v", names)
			}
		})
	}
}

// Where kill is refused, as for what another user runs, the processes are named until they have
// ended or may be left.
func TestEndStepsRefused(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	all := named(t, home, "abc")
	const refuse = "\nkill() { return 1; }\n"
	for range 2 {
		left := endIn(t, "sh", home, refuse, "")
		for _, p := range all {
			if p.Name != "sleep" && !strings.Contains(fmt.Sprint(left), fmt.Sprintf("pid %d (sh -c trap", p.PID)) {
				t.Errorf("%d is not among %v", p.PID, left)
			}
		}
	}
	leave := ""
	may := map[int]bool{}
	for _, p := range all {
		if p.Name != "sleep" {
			leave += fmt.Sprint(p.PID) + " "
			may[p.PID] = true
		}
	}
	// Which sleep runs just then, or is a copy of its shell that is about to, cannot be known before.
	for _, s := range endIn(t, "sh", home, refuse, leave) {
		if may[s.PID] {
			t.Errorf("left: %v", s)
		}
	}
	// If no sleep ran just then, all was left, and nothing tells of it any more.
	touch(t, filepath.Join(home, fmt.Sprintf("%s%s-%d-1-%s", stepPrefix, testLease, os.Getpid(), "abc")))
	left := endIn(t, "sh", home, "", "")
	if living := proc.Living(all); len(left) > 0 || len(living) > 0 {
		t.Errorf("left: %v, %v", left, living)
	}
}
