package control

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCanonical(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "real"), 0o700),
		os.Symlink("real", filepath.Join(dir, "rel")),
		os.Symlink(filepath.Join(dir, "rel"), filepath.Join(dir, "abs")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for in, want := range map[string]string{
		"real":           "real",
		"real/":          "real",
		"./real/../real": "real",
		"rel":            "real",
		"abs":            "real",
		"abs/x":          "real/x",
		"gone":           "gone",
		dir + "/abs/x":   "real/x",
		dir + "//real":   "real",
	} {
		got, err := Canonical(in)
		if err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "loop", "gone/x"} {
		if got, err := Canonical(in); err == nil {
			t.Errorf("%q: %s, want an error", in, got)
		}
	}
	if got, err := Canonical("/"); err != nil || got != "/" {
		t.Errorf("/: %s %v", got, err)
	}
}

func TestSocketPath(t *testing.T) {
	dir, m := runtime(t)
	path, err := SocketPath(m)
	if err != nil || filepath.Dir(path) != filepath.Join(dir, "bundlefs") {
		t.Fatalf("%s %v, want it under %s", path, err, dir)
	}
	if other, err := SocketPath(filepath.Dir(m)); err != nil || other == path {
		t.Errorf("two mount points share %s (%v)", path, err)
	}

	// Every folder that is not proven private is passed over.
	elsewhere := func(name string) {
		t.Helper()
		path, err := SocketPath(m)
		if err != nil || strings.HasPrefix(path, dir) {
			t.Errorf("%s: used %s (%v)", name, path, err)
		}
		if len(path) > maxSunPath {
			t.Errorf("%s: %d bytes: %s", name, len(path), path)
		}
	}
	sub := filepath.Join(dir, "bundlefs")
	if err := os.Chmod(sub, 0o750); err != nil {
		t.Fatal(err)
	}
	elsewhere("open to the group")
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), sub); err != nil {
		t.Fatal(err)
	}
	elsewhere("a symbolic link")
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, strings.Repeat("l", 80)))
	if err := os.Mkdir(os.Getenv("XDG_RUNTIME_DIR"), 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere("too long for a socket")
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	elsewhere("not absolute")
	if os.Getuid() == 0 {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		if err := syscall.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		elsewhere("somebody else's")
	}
}
