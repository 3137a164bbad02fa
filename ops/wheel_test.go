package ops

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bundlefs/bundle"
	"bundlefs/internal/testnode"
)

// project gives an sdist's files: a module that prints, and a setup.py with more of its arguments.
func project(name, version, more string) map[string]string {
	return map[string]string{
		"PKG-INFO":                    "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n",
		"setup.py":                    fmt.Sprintf("from setuptools import setup\nsetup(name=%q, version=%q, packages=[%q]%s)\n", name, version, name, more),
		name + "/__init__.py":         fmt.Sprintf("VERSION = %q\ndef main():\n    print(%q, VERSION)\n", version, name),
		name + "/__main__.py":         "from . import main\nmain()\n",
		name + ".egg-info/depends":    "",
		name + ".egg-info/SOURCES.tx": "",
	}
}

// sdist writes an sdist and gives its path.
func sdist(t *testing.T, dir, stem string, files map[string]string) string {
	t.Helper()
	path := filepath.Join(dir, stem+".tar.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packed := gzip.NewWriter(f)
	archive := tar.NewWriter(packed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := archive.WriteHeader(&tar.Header{Name: stem + "/" + name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(1e9, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// wheelSite gives a cache of its own to the tests of a site, and the python3 of the system.
func wheelSite(t *testing.T) (cache string) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	t.Setenv("PATH", filepath.Dir(systemPython)+":/usr/bin:/bin")
	return filepath.Join(home, "conc", "wheels")
}

// entries are the names in a folder.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// Sdists become wheels here, so that the node needs no setuptools.
func TestWheel(t *testing.T) {
	cache := wheelSite(t)
	s := newSite(t, testnode.Start(t), "artifacts = tools/*.whl")
	for _, name := range []string{"pip", "setuptools", "wheel"} {
		data, err := os.ReadFile(wheel(t, name))
		if err != nil {
			t.Fatal(err)
		}
		s.write("tools/"+filepath.Base(wheel(t, name)), string(data))
	}
	hello, err := filepath.Glob(filepath.Join(dist(t), "hello*.tar.gz"))
	if err != nil || len(hello) != 1 {
		t.Fatal(hello, err)
	}
	s.deliver(hello...)
	s.deliver(wheel(t, "pip"))
	sdist(t, s.env.Dir, "two-2.0", project("two", "2.0", ""))
	job := []string{"local wheel *.tar.gz pip-*.whl", "remote verify --strict", "remote venv", "remote pip hello_conc-*.whl two", "remote run hello-conc && ~/venvs/v1/bin/python -m two"}
	r, e := s.run(job[0])
	want(t, r, OK, "2 built, 0 out of the cache; 3 files")
	sums := map[string]string{}
	m, err := LoadManifest(s.bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hello_conc-1.0-py3-none-any.whl", "two-2.0-py3-none-any.whl"} {
		if sums[name] = m[name].SHA256; sums[name] == "" {
			t.Errorf("not delivered: %s of %v", name, m.Paths())
		}
	}
	if n := len(entries(t, cache)); n != 3 { // two and the lock
		t.Errorf("in the cache: %v", entries(t, cache))
	}
	if p := e.progress[len(e.progress)-1]; p.Done != p.Total {
		t.Errorf("%+v", p)
	}
	r, e = s.run(job...)
	want(t, r, OK)
	if got := strings.Join(e.out[len(e.out)-2:], ", "); got != "hello from the venv, two 2.0" {
		t.Errorf("installed: %s", got)
	}
	// What is damaged is built again, to the same bytes.
	found, err := filepath.Glob(filepath.Join(cache, "*", "two-*.whl"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := os.WriteFile(found[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("local wheel *.tar.gz")), OK, "1 built, 1 out of the cache")
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("local wheel *.tar.gz --to again")), OK, "2 built")
	if m, err = LoadManifest(s.bundle); err != nil {
		t.Fatal(err)
	}
	for name, sum := range sums {
		if m[name].SHA256 != sum || m["again/"+name].SHA256 != sum {
			t.Errorf("%s is built differently: %s %s %s", name, sum, m[name].SHA256, m["again/"+name].SHA256)
		}
	}
}

func TestWheelRefuses(t *testing.T) {
	cache := wheelSite(t)
	s := newCopySite(t)
	sdist(t, s.env.Dir, "a-1", project("a", "1", ""))
	want(t, first(s.run("local wheel nothing-*.tar.gz")), Failed, "nothing matches")
	s.write("notes.txt", "x")
	want(t, first(s.run("local wheel notes.txt")), Failed, "neither a wheel nor an sdist")
	want(t, first(s.run("local wheel a-*.tar.gz")), Blocked, "no wheel of pip", "artifacts")
	s.deliver(wheel(t, "pip"))
	want(t, first(s.run("local wheel a-*.tar.gz")), Failed, "build a-1.tar.gz: ", "wheels of setuptools and wheel")
	s.deliver(wheel(t, "setuptools"), wheel(t, "wheel"))
	sdist(t, s.env.Dir, "bad-1", map[string]string{"PKG-INFO": "Metadata-Version: 2.1\nName: bad\nVersion: 1\n", "setup.py": "raise RuntimeError('no such luck')\n"})
	r := first(s.run("local wheel a-*.tar.gz bad-*.tar.gz"))
	want(t, r, Failed, "build bad-1.tar.gz: RuntimeError: no such luck")
	if !strings.Contains(strings.Join(r.Output, "\n"), "no such luck") || !strings.Contains(r.Command, "--without-pip") {
		t.Errorf("%q\n%s", r.Output, r.Command)
	}
	sdist(t, s.env.Dir, "c-1", map[string]string{"PKG-INFO": "Metadata-Version: 2.2\nName: c\nVersion: 1\n", "pyproject.toml": "[build-system]\nrequires = [\"flit_core>=3\"]\nbuild-backend = \"flit_core.buildapi\"\n"})
	want(t, first(s.run("local wheel c-*.tar.gz")), Failed, "build c-1.tar.gz: ", "flit")
	s.write("d-1.tar.gz", "no archive")
	want(t, first(s.run("local wheel d-*.tar.gz")), Failed, "build d-1.tar.gz: ", "gzip")
	want(t, first(s.run("local wheel a-*.tar.gz")), OK, "1 files")
	if got := s.env; got.Bundle != s.bundle || len(entries(t, s.bundle.path)) != 1 {
		t.Errorf("delivered: %v", entries(t, s.bundle.path))
	}
	for _, name := range entries(t, cache) {
		if strings.HasPrefix(name, "tmp-") {
			t.Errorf("left in the cache: %s", name)
		}
	}
	t.Setenv("PATH", t.TempDir())
	want(t, first(s.run("local wheel a-*.tar.gz")), Blocked, "python3 is not on the PATH")
	s.bundle.health = bundle.HealthNone
	want(t, first(s.run("local wheel a-*.tar.gz")), Blocked, "not mounted")
}

// A wheel with an extension goes to a node that it fits, and to no other.
func TestWheelForAPlatform(t *testing.T) {
	wheelSite(t)
	s := newSite(t, testnode.Start(t))
	s.deliver(wheel(t, "pip"), wheel(t, "setuptools"), wheel(t, "wheel"))
	files := project("ext", "1", ", distclass=Binary")
	files["setup.py"] = "from setuptools import Distribution\nclass Binary(Distribution):\n    def has_ext_modules(self):\n        return True\n" + files["setup.py"]
	sdist(t, s.env.Dir, "ext-1", files)
	want(t, first(s.run("local wheel ext-*.tar.gz")), OK, "1 built")
	found := entries(t, s.bundle.path)
	if len(found) != 1 || !strings.Contains(found[0], "-linux_") {
		t.Fatalf("delivered: %v", found)
	}
	data, err := os.ReadFile(filepath.Join(s.bundle.path, found[0]))
	if err != nil {
		t.Fatal(err)
	}
	s.write("elsewhere/ext-1-cp27-cp27mu-macosx_10_9_x86_64.whl", string(data))
	want(t, first(s.run("local wheel elsewhere/*.whl")), Blocked, "is not pure Python, and does not fit the node", "cp27-cp27mu-macosx", "machine like the node")
	if got := entries(t, s.bundle.path); len(got) != 1 {
		t.Errorf("delivered: %v", got)
	}
}

// A build that is stopped, or takes too long, ends with all that it started.
func TestWheelIsStopped(t *testing.T) {
	cache := wheelSite(t)
	s := newCopySite(t)
	s.deliver(wheel(t, "pip"), wheel(t, "setuptools"), wheel(t, "wheel"))
	mark := filepath.Join(t.TempDir(), "pid")
	files := project("slow", "1", "")
	files["setup.py"] = fmt.Sprintf("import os, subprocess, time\nchild = subprocess.Popen(['sleep', '1000'])\nwith open(%q, 'w') as f:\n    f.write('%%d\\n' %% child.pid)\nchild.wait()\n", mark+".new") +
		fmt.Sprintf("os.rename(%q, %q)\n", mark+".new", mark)
	files["setup.py"] = strings.Replace(files["setup.py"], "child.wait()\n", "", 1) + "child.wait()\n"
	sdist(t, s.env.Dir, "slow-1", files)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan Result, 1)
	go func() { ended <- s.runWith(ctx, &events{}, "local wheel slow-*.tar.gz") }()
	pid := pidIn(t, mark)
	cancel()
	r := <-ended
	want(t, r, Stopped)
	until(t, "the build's child has ended", func() bool { return !lives(pid) })
	for _, name := range entries(t, cache) {
		if strings.HasPrefix(name, "tmp-") {
			t.Errorf("left in the cache: %s", name)
		}
	}
	want(t, first(s.run("local wheel slow-*.tar.gz --timeout 0.3")), TimedOut)
}
