package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if artifacts.dir != "" {
		os.RemoveAll(artifacts.dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const (
	systemPython = "/usr/bin/python3"
	systemWheels = "/usr/share/python-wheels"
)

// artifacts are a real sdist and wheel, built once of testdata/hello.
var artifacts struct {
	once sync.Once
	dir  string
	err  error
}

// dist is a folder with hello-conc's sdist and wheel.
func dist(t *testing.T) string {
	t.Helper()
	a := &artifacts
	a.once.Do(func() {
		if a.dir, a.err = os.MkdirTemp("", "ops-dist-"); a.err != nil {
			return
		}
		source := filepath.Join(a.dir, "source")
		if a.err = os.CopyFS(source, os.DirFS("testdata/hello")); a.err != nil {
			return
		}
		cmd := exec.Command(systemPython, "setup.py", "-q", "sdist", "-d", a.dir, "bdist_wheel", "-d", a.dir)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "PYTHONPATH="+wheel(t, "setuptools")+":"+wheel(t, "wheel"), "PYTHONDONTWRITEBYTECODE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			a.err = fmt.Errorf("build hello-conc: %w\n%s", err, out)
		}
	})
	if a.err != nil {
		t.Fatal(a.err)
	}
	return a.dir
}

// wheel is one of the wheels that Debian's python3-pip-whl and its like install.
func wheel(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(systemWheels, name+"-*.whl"))
	if len(found) == 0 {
		t.Fatalf("there is no %s wheel in %s: install python3-%s-whl", name, systemWheels, name)
	}
	return found[0]
}

// folder is a bundle whose mount is the very folder on the node.
type folder struct {
	path string

	mu       sync.Mutex // guards what follows
	health   bundle.Health
	spool    string // of what is not sent
	calls    []string
	manifest []byte
	state    string // the file with the manifest
	syncErr  error
	fail     map[string]error
}

func (f *folder) note(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	return f.fail[call]
}

func (f *folder) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, " ")
}

func (f *folder) Dir() string        { return "bundle-1" }
func (f *folder) MountPoint() string { return f.path }
func (f *folder) Status(context.Context) (*bundle.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.health == "" {
		return nil, bundle.ErrNotOpen
	}
	return &bundle.Status{State: bundle.State{MountPoint: f.path}, Health: f.health, Spool: f.spool}, nil
}
func (f *folder) Files(context.Context) (bundle.Files, error) {
	return bundle.MountedFiles(f.path), nil
}
func (f *folder) set(h bundle.Health) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.health = h
	return nil
}
func (f *folder) Lock(context.Context) error {
	return errors.Join(f.note("lock"), os.Mkdir(f.path, 0o755), f.set(bundle.HealthNone))
}
func (f *folder) Send(ctx context.Context, progress func(bundle.Progress)) error {
	return f.Sync(ctx, progress)
}
func (f *folder) Token() string                   { return "" }
func (f *folder) Lost(context.Context) error      { return nil }
func (f *folder) MakeLocal(context.Context) error { return f.note("makelocal") }
func (f *folder) Mount(context.Context) error {
	return errors.Join(f.note("mount"), f.set(bundle.HealthOK))
}
func (f *folder) Unmount(context.Context) error {
	return errors.Join(f.note("unmount"), f.set(bundle.HealthNone))
}
func (f *folder) RemoveRemote(context.Context) error {
	return errors.Join(f.note("removeremote"), os.RemoveAll(f.path), f.set(""))
}
func (f *folder) RemoveLocal(context.Context) error { return f.note("removelocal") }
func (f *folder) Sync(_ context.Context, progress func(bundle.Progress)) error {
	progress(bundle.Progress{Files: 1, Bytes: 10})
	progress(bundle.Progress{})
	err := f.note("sync")
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(err, f.syncErr)
}
func (f *folder) Drop(context.Context) error { return f.note("drop") }
func (f *folder) Manifest() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.manifest, nil
}
func (f *folder) SaveManifest(data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manifest = data
	return os.WriteFile(f.ManifestFile(), data, 0o600)
}
func (f *folder) ManifestFile() string { return f.state }

// events is a Sink that keeps everything.
type events struct {
	mu       sync.Mutex // guards what follows
	started  []string
	ended    []string
	results  []string // names and messages
	out, err []string
	progress []Progress
	onOutput func(line string)
}

func (e *events) StepStarted(s Step, index, total int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = append(e.started, fmt.Sprintf("%s %d/%d", s.Name, index, total))
}

func (e *events) Output(_ Step, stream Stream, line string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if stream == Stderr {
		e.err = append(e.err, line)
	} else {
		e.out = append(e.out, line)
	}
	if e.onOutput != nil {
		e.onOutput(line)
	}
}

func (e *events) Progress(_ Step, p Progress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.progress = append(e.progress, p)
}

func (e *events) StepEnded(s Step, r Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = append(e.ended, s.Name+" "+r.Status.String())
	e.results = append(e.results, s.Name+" "+r.Message)
}

// site is a node with an open, mounted bundle.
type site struct {
	t      *testing.T
	node   *testnode.Node // nil without sshd
	bundle *folder
	env    Env
}

// newSite gives a site on n; attributes are lines of [DEFAULT] that win over the site's own.
func newSite(t *testing.T, n *testnode.Node, attributes ...string) *site {
	t.Helper()
	s := newOffline(t, attributes, "sshd.port = "+strconv.Itoa(n.Port), "admin = "+n.User, "op_key = "+n.KeyFile)
	s.node = n
	s.connectTo(n.Target())
	s.bundle.path = filepath.Join(n.Home, s.bundle.Dir())
	if err := os.Mkdir(s.bundle.path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.bundle.path, 0o777); err != nil {
		t.Fatal(err)
	}
	s.bundle.health = bundle.HealthOK
	return s
}

// newOffline gives a site whose node does not exist.
func newOffline(t *testing.T, attributes []string, more ...string) *site {
	t.Helper()
	dir := t.TempDir()
	lines := []string{"[DEFAULT]", "bundle = bundle-1", "sshd.config = no"}
	given := map[string]bool{}
	for _, a := range attributes {
		key, _, _ := strings.Cut(a, "=")
		given[strings.TrimSpace(key)] = true
	}
	for _, a := range append(more, "venv = venvs/v1", "python = "+systemPython, "word = a 'b' $c", "two.words-x = y") {
		if key, _, _ := strings.Cut(a, "="); !given[strings.TrimSpace(key)] {
			lines = append(lines, a)
		}
	}
	lines = append(append(lines, attributes...), "[node:node1]", "sshd.ip = 127.0.0.1")
	file := filepath.Join(dir, "deploy.ini")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := deploy.Load(file, Check)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Node("node1")
	if err != nil {
		t.Fatal(err)
	}
	b := &folder{path: filepath.Join(dir, "mount"), state: filepath.Join(t.TempDir(), "it's the manifest"), fail: map[string]error{}}
	return &site{t: t, bundle: b, env: Env{Node: n, Bundle: b, Dir: dir,
		Connect: func(context.Context) (*remote.Client, error) { return nil, errors.New("offline") }}}
}

// connectTo makes the site's runs share one connection, as conc's do.
func (s *site) connectTo(target remote.Target) {
	var client *remote.Client
	s.env.Connect = func(ctx context.Context) (*remote.Client, error) {
		if client != nil {
			select {
			case <-client.Done():
			default:
				return client, nil
			}
		}
		var err error
		client, err = remote.Dial(ctx, target, remote.Options{})
		if err == nil {
			s.t.Cleanup(func() { client.Close() })
		}
		return client, err
	}
}

// deliver puts files into deploy.ini's folder.
func (s *site) deliver(files ...string) {
	s.t.Helper()
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		s.write(filepath.Base(f), string(data))
	}
}

func (s *site) write(name, content string) {
	s.t.Helper()
	file := filepath.Join(s.env.Dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// steps parses lines such as "remote venv --keep"; the names are s1, s2, …
func steps(t *testing.T, lines ...string) []Step {
	t.Helper()
	var list []Step
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) > 2 && (words[1] == "run" || words[1] == "stop") {
			words = strings.SplitN(line, " ", 3)
			if strings.HasPrefix(words[2], "--timeout ") {
				words = strings.SplitN(line, " ", 5)
			}
		} else if words[1] == "sudo" {
			var err error
			if words, err = deploy.Split(line); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		s, err := Parse(deploy.Step{List: "install", Name: fmt.Sprintf("s%d", i+1), Host: words[0], Op: words[1], Args: words[2:]})
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, s)
	}
	return list
}

// run runs the lines as a job list.
func (s *site) run(lines ...string) (Result, *events) {
	s.t.Helper()
	e := &events{}
	return s.runWith(s.t.Context(), e, lines...), e
}

func (s *site) runWith(ctx context.Context, e *events, lines ...string) Result {
	s.t.Helper()
	r := Run(ctx, &s.env, steps(s.t, lines...), Options{}, e)
	s.t.Logf("%s: %s %s (%s)", strings.Join(lines, " | "), r.Status, r.Message, r.Hint)
	return r
}

// want checks how a run ended.
func want(t *testing.T, r Result, status Status, parts ...string) {
	t.Helper()
	text := r.Message + "\n" + r.Hint
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("message and hint %q lack %q", text, part)
		}
	}
	if r.Status != status {
		t.Fatalf("status %s, want %s: %s (%s)\n%s", r.Status, status, r.Message, r.Hint, strings.Join(r.Output, "\n"))
	}
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// pidIn waits for a file with a process number that a command writes.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	var pid int
	until(t, file, func() bool {
		data, _ := os.ReadFile(file)
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil && strings.HasSuffix(string(data), "\n")
	})
	return pid
}

// lives tells whether a process has not ended.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return !slices.Contains([]string{"Z", "X"}, fields[0])
}
