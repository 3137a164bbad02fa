package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"bundlefs/internal/pydist"
	"bundlefs/internal/wheelcache"
)

const (
	// buildEpoch is the time of all that is built, 1980-01-02: zip knows none before 1980.
	buildEpoch = "315619200"
	// wheelCacheSize is how much the cache of wheels keeps.
	wheelCacheSize = 1 << 30
	// recipe is part of the keys in the cache: it changes with the way wheels are built.
	recipe = "1"
)

// wheelBuild builds sdists into wheels, or finds them in the cache.
type wheelBuild struct {
	t       *task
	folders []string // of artifacts
	cache   *wheelcache.Cache

	python string // the workstation's interpreter
	about  string // what it tells of itself
	pip    string // the wheel of pip
	pool   *pydist.Pool

	venv struct {
		sync.Mutex // guards what follows: the first build that is needed makes it
		python     string
		dir        string
		done       func() error
	}

	mu    sync.Mutex // guards what follows
	made  []string   // the wheels, in the cache
	built int        // of them, now
	sums  map[string]string
}

// buildError is a build that failed, with what pip said last.
type buildError struct {
	sdist  string
	why    string
	output []string
}

func (e *buildError) Error() string { return "build " + filepath.Base(e.sdist) + ": " + e.why }

// Hint says what to do.
func (e *buildError) Hint() string {
	text := strings.Join(e.output, "\n")
	for _, tool := range []string{"setuptools", "wheel"} {
		if strings.Contains(text, "No matching distribution found for "+tool) {
			return "building needs wheels of setuptools and wheel: put them beside the sdists, or name them in the attribute artifacts"
		}
	}
	if _, missing, ok := strings.Cut(text, "No matching distribution found for "); ok {
		return "building needs " + cut(strings.Fields(missing + " it")[0], 100) + ": put a wheel of it beside the sdists, or name it in the attribute artifacts"
	}
	if strings.Contains(text, "gcc") || strings.Contains(text, "error: command '") {
		return "it is not pure Python, and its extension cannot be compiled here: take a wheel of it for the node's platform"
	}
	return "the last lines of pip are above; build it by hand to see all"
}

// all gives the wheels of the sdists.
func (b *wheelBuild) all(ctx context.Context, sdists []string) Result {
	if len(sdists) == 0 {
		return Result{}
	}
	if r := b.prepare(ctx); r.Status != OK {
		return r
	}
	g, limited := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	files := make([]string, len(sdists))
	done := 0
	for i, sdist := range sdists {
		g.Go(func() (err error) {
			if files[i], err = b.one(limited, sdist); err == nil {
				b.mu.Lock()
				done++
				b.t.progress(Progress{What: "wheel", Done: int64(done), Total: int64(len(sdists)), Unit: "wheels"})
				b.mu.Unlock()
			}
			return err
		})
	}
	err := g.Wait()
	b.made = files
	var failure *buildError
	if err != nil && ctx.Err() == nil && errors.As(err, &failure) {
		b.t.output(Stderr, failure.output)
		return failed(failure.Hint(), "%s", visible(cut(failure.Error(), 500)))
	}
	return copyResult(ctx, err)
}

// prepare finds what every build needs.
func (b *wheelBuild) prepare(ctx context.Context) Result {
	var err error
	if b.python, err = exec.LookPath("python3"); err != nil {
		return blocked("install python3 here: wheels are built with it", "%v", errNoPython)
	}
	if b.pip = newestPip(b.folders); b.pip == "" {
		return blocked("put a wheel of pip (pip-VERSION-py3-none-any.whl) beside the sdists, or name it in the attribute artifacts", "no wheel of pip in %s", strings.Join(b.folders, ", "))
	}
	about := &task{work: &work{env: b.t.work.env, log: b.t.work.log, sink: Discard{}}, step: b.t.step}
	if _, err = about.runLocal(ctx, localCommand{argv: []string{b.python, "-I", "-S", "-c", "import sys; print(sys.implementation.name, sys.version.replace(chr(10), ' '), sys.platform)"}, dir: b.t.work.env.Dir, env: os.Environ()}); err != nil {
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		return blocked("mend the python3 of this workstation", "%s does not work: %v %s", b.python, err, strings.Join(about.lines(), " | "))
	}
	b.about = strings.Join(about.lines(), "\n")
	b.sums = map[string]string{}
	var dists []*pydist.Dist
	for _, dir := range b.folders {
		files, _ := filepath.Glob(filepath.Join(quoteMeta(dir), "*.whl"))
		for _, file := range files {
			if d, err := pydist.Read(file); err == nil {
				dists = append(dists, d)
			}
		}
	}
	b.pool = pydist.NewPool(dists, nil)
	dir, err := os.UserCacheDir()
	if err != nil {
		return resultOf(ctx, fmt.Errorf("the cache of wheels: %w", err))
	}
	if b.cache, err = wheelcache.Open(filepath.Join(dir, "conc", "wheels"), wheelCacheSize); err != nil {
		return copyResult(ctx, err)
	}
	return Result{}
}

// close removes what was built in, and bounds the cache.
func (b *wheelBuild) close() error {
	var errs []error
	if b.venv.done != nil {
		errs = append(errs, b.venv.done())
	}
	if b.cache != nil {
		errs = append(errs, b.cache.Close())
	}
	return errors.Join(errs...)
}

// one gives the wheel of an sdist.
func (b *wheelBuild) one(ctx context.Context, sdist string) (string, error) {
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	d, err := pydist.Read(sdist)
	if err != nil {
		return "", &buildError{sdist, err.Error(), nil}
	}
	key, err := b.key(d)
	if err != nil {
		return "", err
	}
	if file, err := b.cache.Get(key); file != "" || err != nil {
		return file, err
	}
	python, err := b.interpreter(ctx)
	if err != nil {
		return "", err
	}
	dir, done, err := b.cache.Temp()
	if err != nil {
		return "", err
	}
	defer done()
	out := filepath.Join(dir, "wheels")
	argv := []string{python, "-m", "pip", "wheel", "--isolated", "--no-index", "--no-deps", "--no-cache-dir", "--no-input", "--disable-pip-version-check"}
	for _, f := range b.folders {
		argv = append(argv, "--find-links", f)
	}
	argv = append(argv, "-w", out, sdist)
	var said []string
	err = errNotQuick
	if b.quick(d) {
		_, err = b.pythonRun(ctx, dir, append(argv, "--no-build-isolation"))
	}
	if err != nil && ctx.Err() == nil { // it may need more than it says
		said, err = b.pythonRun(ctx, dir, argv)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", &buildError{sdist, reason(said, err), said}
	}
	made, err := filepath.Glob(filepath.Join(quoteMeta(out), "*.whl"))
	if err != nil || len(made) != 1 {
		return "", &buildError{sdist, fmt.Sprintf("pip made %d wheels of it", len(made)), said}
	}
	file, err := b.cache.Put(key, made[0])
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.built++
	return file, nil
}

// reason is the line of pip's output that tells why, else how pip ended.
func reason(said []string, err error) string {
	for _, line := range slices.Backward(said) {
		line = strings.TrimSpace(line)
		name, _, ok := strings.Cut(line, ": ")
		if ok && strings.HasSuffix(name, "Error") && !strings.Contains(name, " ") || strings.HasPrefix(line, "ERROR: No matching") {
			return strings.TrimPrefix(line, "ERROR: ")
		}
	}
	for _, line := range said {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "ERROR: "); ok {
			return text
		}
	}
	return err.Error()
}

// interpreter is that of the venv in which pip runs; the first call makes it.
func (b *wheelBuild) interpreter(ctx context.Context) (string, error) {
	v := &b.venv
	v.Lock()
	defer v.Unlock()
	if v.python != "" {
		return v.python, nil
	}
	var err error
	if v.dir == "" {
		if v.dir, v.done, err = b.cache.Temp(); err != nil {
			return "", err
		}
	}
	venv := filepath.Join(v.dir, "venv")
	said, err := b.pythonRun(ctx, v.dir, []string{b.python, "-I", "-m", "venv", "--without-pip", venv})
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", &buildError{"venv", reason(said, err), said}
	}
	python := filepath.Join(venv, "bin", "python")
	unpack := "import sys, sysconfig, zipfile; [zipfile.ZipFile(file).extractall(sysconfig.get_paths()['purelib']) for file in sys.argv[1:]]"
	if said, err = b.pythonRun(ctx, v.dir, append([]string{python, "-I", "-c", unpack, b.pip}, b.tools()...)); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", &buildError{"venv", reason(said, err), said}
	}
	v.python = python
	return v.python, nil
}

var errNotQuick = errors.New("it is built in an environment of its own")

// tools are the wheels with which most sdists are built: setuptools, and wheel.
func (b *wheelBuild) tools() (files []string) {
	for _, name := range []string{"setuptools", "wheel"} {
		if list := b.pool.Named(name); len(list) > 0 && list[0].Pure() {
			files = append(files, list[0].File)
		}
	}
	return files
}

// quick tells whether the sdist says that it is built by the tools alone. Then
// they need not be installed anew for it, which takes longer than most builds.
func (b *wheelBuild) quick(d *pydist.Dist) bool {
	needs := append(slices.Clone(d.BuildRequires), pydist.Requirement{Name: "setuptools"})
	for _, r := range needs {
		list := b.pool.Named(r.Name)
		if r.Name != "setuptools" && r.Name != "wheel" || len(list) == 0 || !list[0].Pure() || !r.Admits(list[0].Version) {
			return false
		}
	}
	return d.Setuptools
}

// pythonRun runs a command of a build, which has nothing of the user's: no
// settings of Python or pip, no home, no network. It gives the last lines of output.
func (b *wheelBuild) pythonRun(ctx context.Context, dir string, argv []string) ([]string, error) {
	env := []string{
		"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + filepath.Join(b.venv.dir, "venv", "bin") + ":" + os.Getenv("PATH"), "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC",
		"SOURCE_DATE_EPOCH=" + buildEpoch, "PYTHONHASHSEED=0", "PYTHONUNBUFFERED=1",
		"PIP_CONFIG_FILE=" + os.DevNull, "PIP_NO_INDEX=1", "PIP_NO_CACHE_DIR=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "no_proxy=", "NO_PROXY=",
	}
	// What a build asks of the internet fails at once: nothing listens on the discard port.
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"} {
		env = append(env, name+"=http://127.0.0.1:9")
	}
	own := &task{work: &work{env: b.t.work.env, log: b.t.work.log, sink: Discard{}}, step: b.t.step}
	_, err := own.runLocal(ctx, localCommand{argv: append([]string{"/bin/sh", "-c", `umask 022; exec "$@"`, "sh"}, argv...), dir: dir, env: env})
	return own.lines(), err
}

// key stands for all that a wheel is built from: the sdist, the interpreter,
// pip, and whatever of the artifacts building may use.
func (b *wheelBuild) key(d *pydist.Dist) (string, error) {
	needs := append(slices.Clone(d.BuildRequires), pydist.Requirement{Name: "setuptools"}, pydist.Requirement{Name: "wheel"})
	files := []string{d.File, b.pip}
	for _, used := range b.pool.Closure(needs) {
		files = append(files, used.File)
	}
	lines := []string{recipe, b.about}
	for i, file := range files {
		sum, err := b.sum(file)
		if err != nil {
			return "", err
		}
		// The sdist's own name tells its version; elsewhere the order of files must not matter.
		line := filepath.Base(file) + " " + sum
		if i == 0 {
			line = "sdist " + line
		}
		lines = append(lines, line)
	}
	slices.Sort(lines[2:])
	digest := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(digest[:]), nil
}

// sum is a file's SHA-256, taken once.
func (b *wheelBuild) sum(file string) (string, error) {
	b.mu.Lock()
	sum, ok := b.sums[file]
	b.mu.Unlock()
	if ok {
		return sum, nil
	}
	sum, err := wheelcache.Sum(file)
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sums[file] = sum
	return sum, nil
}
