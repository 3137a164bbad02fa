package ops

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/bundle"
	"bundlefs/internal/testnode"
)

// A script of a plan does the same as the run, with ssh and scp.
func TestScript(t *testing.T) {
	n := testnode.Start(t)
	s := newSite(t, n)
	if err := os.Remove(s.bundle.path); err != nil {
		t.Fatal(err)
	}
	s.deliver(wheel(t, "pip"), filepath.Join(dist(t), "hello_conc-1.0-py3-none-any.whl"))
	s.write("it's ü.txt", "x")
	list := steps(t, "local copy *.whl *.txt --to .", "remote verify --strict", "remote venv", "remote pip hello_conc-*.whl",
		"remote run test -e mended && hello-conc > \"out 'of' it\"", "remote run cat \"out 'of' it\"; cp *.txt out* ..")
	file := filepath.Join(t.TempDir(), "plan.sh")
	if err := os.WriteFile(file, []byte(Script(&s.env, "install", list)), 0o644); err != nil {
		t.Fatal(err)
	}
	// The programs read the configuration in the account's home, and not in $HOME.
	bin := t.TempDir()
	for _, name := range []string{"ssh", "scp"} {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		// The first -F holds: the script's own says that there is none.
		text := "#!/bin/sh\nexec " + real + " -o UserKnownHostsFile=" + n.KnownHosts + " -o IdentitiesOnly=yes \"$@\"\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{file}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run()
	if err == nil || !strings.Contains(out, "step s5: FAILED with exit code 1") || !strings.Contains(out, "'s5'") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(s.bundle.path, bundle.RecordName)); err != nil {
		t.Error(err)
	}
	if out, err := run(); err == nil || !strings.Contains(out, "somebody holds the lock") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(s.bundle.path, "mended"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err = run("s5"); err != nil || strings.Contains(out, "== s4") || !strings.Contains(out, "== s6") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(s.bundle.path); err == nil {
		t.Error("the lock is left")
	}
	for _, name := range []string{"it's ü.txt", "out 'of' it", "venvs/v1/bin/hello-conc"} {
		if _, err := os.Stat(filepath.Join(n.Home, name)); err != nil {
			t.Error(err)
		}
	}
}
