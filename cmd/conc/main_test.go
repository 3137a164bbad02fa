package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"bundlefs/internal/proc"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// The test binary is also conc, and the mount program that conc starts.
func TestMain(m *testing.M) {
	program := func() { os.Exit(run(os.Args)) }
	testscript.Main(leakChecked{m}, map[string]func(){"conc": program, "bundlefs": program})
}

// raceEnv keeps programs built with -race from waiting a second at their end.
const raceEnv = "GORACE=atexit_sleep_ms=0"

// leakChecked fails when tests leave goroutines, and removes what they share.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if hello.dir != "" {
		os.RemoveAll(hello.dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// hello is the example product with its artifacts, built once.
var hello struct {
	once sync.Once
	dir  string
	err  error
}

// product gives a copy of the example product's folder, with its artifacts.
func product(t *testing.T) string {
	t.Helper()
	hello.once.Do(func() {
		if hello.dir, hello.err = os.MkdirTemp("", "conc-hello-"); hello.err != nil {
			return
		}
		// Built elsewhere, so that the sources stay as they are.
		if hello.err = os.CopyFS(hello.dir, os.DirFS("../../examples/hello")); hello.err != nil {
			return
		}
		for _, made := range []string{"dist", "vendor"} {
			os.RemoveAll(filepath.Join(hello.dir, made))
		}
		if out, err := exec.Command("make", "-C", hello.dir, "artifacts").CombinedOutput(); err != nil {
			hello.err = fmt.Errorf("make artifacts: %w\n%s", err, out)
		}
	})
	if hello.err != nil {
		t.Fatal(hello.err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(hello.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// workstation is a user's home with a project, and the environment in which
// conc runs.
type workstation struct {
	t       *testing.T
	home    string
	project string
	mark    string
	env     []string
	wrap    []string // how a command line of conc begins, nil for with conc

	mu   sync.Mutex      // guards said
	said strings.Builder // all that conc wrote to standard error
}

// newLinked gives a node, the link to it, and a workstation that reaches it over that.
func newLinked(t *testing.T, deploy string) (*testnode.Node, *testnode.Link, *workstation) {
	t.Helper()
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	return n, link, newWorkstation(t, n, n.TargetVia(link), "", deploy)
}

// newWorkstation gives one that knows a node's key. deploy.ini is made from
// the text, in which PORT, USER and KEY stand for what reaches the node, by
// default itself.
func newWorkstation(t *testing.T, n *testnode.Node, target remote.Target, project, deploy string) *workstation {
	t.Helper()
	w := &workstation{t: t, home: t.TempDir(), project: project}
	if w.project == "" {
		w.project = t.TempDir()
	}
	// Sockets have short names; t.TempDir's can be long.
	runtime, err := os.MkdirTemp("", "conc-run-")
	if err != nil {
		t.Fatal(err)
	}
	ssh := filepath.Join(w.home, ".ssh")
	w.mark = "CONC_TEST_MARK=" + filepath.Base(runtime)
	config := "Host 127.0.0.1\n  UserKnownHostsFile " + n.KnownHosts + "\n  IdentitiesOnly yes\n"
	deploy = strings.NewReplacer("PORT", fmt.Sprint(target.Port), "USER", n.User, "KEY", n.KeyFile).Replace(deploy)
	for _, err := range []error{
		os.Mkdir(ssh, 0o700), os.WriteFile(filepath.Join(ssh, "config"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(w.project, "deploy.ini"), []byte(deploy), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(os.Environ(), "HOME="+w.home, "XDG_RUNTIME_DIR="+runtime, "XDG_STATE_HOME="+filepath.Join(w.home, "state"),
		"XDG_CACHE_HOME="+filepath.Join(w.home, "cache"), "CONC_FILE=", "SSH_AUTH_SOCK=", "TZ=UTC", raceEnv, w.mark)
	t.Cleanup(func() {
		w.cleanup()
		os.RemoveAll(runtime)
	})
	return w
}

// cleanup fails the test when it left a process or a mount.
func (w *workstation) cleanup() {
	if w.t.Failed() { // it may have left its bundle open
		for _, m := range w.mounts() {
			cmd := exec.Command("bundlefs", "unmount", m)
			cmd.Env = w.env
			cmd.Run()
		}
	}
	mustEnd(w.t, w.mark)
	for _, m := range w.mounts() {
		w.t.Errorf("mount left: %s", m)
		if exec.Command("fusermount3", "-uz", "--", m).Run() != nil {
			exec.Command("umount", "-l", "--", m).Run()
		}
	}
}

// mustEnd fails the test when processes with a mark in their environment do not end.
func mustEnd(t *testing.T, mark string) {
	t.Helper()
	var left []proc.Process
	if !await(func() bool { left = proc.Marked(mark); return len(left) == 0 }) {
		t.Errorf("processes left: %v", left)
		for _, p := range left {
			p.Signal(9)
		}
	}
}

// mounts are the mount points in the home.
func (w *workstation) mounts() []string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], w.home+"/") {
			list = append(list, f[4])
		}
	}
	return list
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// tool makes a command of another program.
func (w *workstation) tool(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), name, args...)
	cmd.Dir, cmd.Env = w.project, w.env
	return cmd
}

// command makes a conc that runs in the project.
func (w *workstation) command(ctx context.Context, args ...string) *exec.Cmd {
	w.t.Helper()
	path, err := exec.LookPath("conc")
	if err != nil {
		w.t.Fatal(err)
	}
	line := append(append(slices.Clone(w.wrap), path), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	if w.wrap == nil {
		cmd.Args[0] = "conc"
	}
	cmd.Dir, cmd.Env = w.project, w.env
	return cmd
}

func (w *workstation) finish(cmd *exec.Cmd) result {
	w.t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%v: %v", cmd.Args, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.WriteString(stderr.String())
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// conc runs conc to its end.
func (w *workstation) conc(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	return w.finish(w.command(ctx, args...))
}

// must runs conc, which has to end with a code, and to say the words on
// standard error.
func (w *workstation) must(code int, words string, args ...string) result {
	w.t.Helper()
	r := w.conc(args...)
	if r.code != code || !strings.Contains(r.stderr, words) {
		w.t.Fatalf("conc %s: exit code %d, want %d and %q\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), r.code, code, words, r.stdout, r.stderr)
	}
	return r
}

// nothingLeft fails the test unless both sides are as they were before the
// bundle; on the node only what is named may be there.
func (w *workstation) nothingLeft(n *testnode.Node, but ...string) {
	w.t.Helper()
	known := map[string]bool{".conc": true} // the log of the steps
	for _, b := range but {
		known[b] = true
	}
	list := func(dir string) (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			w.t.Error(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for _, name := range list(n.Home) {
		if !known[name] {
			w.t.Errorf("left on the node: %s", name)
		}
	}
	for _, name := range list(w.home) {
		switch name {
		case ".ssh", "state", "cache":
		default:
			w.t.Errorf("left in the home: %s", name)
		}
	}
	for _, dir := range []string{"state/conc/bundles", "state/bundlefs"} {
		for _, name := range list(filepath.Join(w.home, dir)) {
			if strings.HasPrefix(name, "spool-") { // who expects none, or one that is kept, looks at w.spools
				continue
			}
			w.t.Errorf("left in %s: %s", dir, name)
		}
	}
	for _, m := range w.mounts() {
		w.t.Errorf("left mounted: %s", m)
	}
}

// await polls until a condition holds, and tells whether it did in time.
func await(condition func() bool) bool {
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
	return true
}

// killMount does kill -9 of the mount programs.
func (w *workstation) killMount() {
	w.t.Helper()
	for _, p := range proc.Marked(w.mark) {
		p.Signal(9)
	}
	if !await(func() bool { return len(proc.Marked(w.mark)) == 0 }) {
		w.t.Error("the mount program does not end")
	}
}

// keyText is a key as known_hosts has it.
func keyText(key []byte) string { return base64.StdEncoding.EncodeToString(key) }
