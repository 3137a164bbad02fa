package ops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bundlefs/bundle"
)

func newCopySite(t *testing.T) *site {
	t.Helper()
	s := newOffline(t, nil)
	if err := os.Mkdir(s.bundle.path, 0o755); err != nil {
		t.Fatal(err)
	}
	s.bundle.health = bundle.HealthOK
	return s
}

func (s *site) inBundle(name string) string { return filepath.Join(s.bundle.path, name) }

func (s *site) content(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(s.inBundle(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

func TestCopy(t *testing.T) {
	s := newCopySite(t)
	s.write("dist/a.whl", "aaa")
	s.write("dist/b.whl", "b")
	s.write("conf/deep/er/x", "x")
	s.write("empty", "")
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(s.env.Dir, "dist/a.whl"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(s.env.Dir, "dist/a.whl"), 0o750); err != nil {
		t.Fatal(err)
	}
	r, e := s.run("local copy dist/*.whl conf empty", "local copy dist/b.whl --to x/y")
	want(t, r, OK)
	for name, content := range map[string]string{"a.whl": "aaa", "b.whl": "b", "conf/deep/er/x": "x", "empty": "", "x/y/b.whl": "b"} {
		if got := s.content(name); got != content {
			t.Errorf("%s: %q", name, got)
		}
	}
	info, err := os.Stat(s.inBundle("a.whl"))
	if err != nil || info.Mode().Perm() != 0o750 || !info.ModTime().Equal(old) {
		t.Errorf("%v %v", info, err)
	}
	m, err := LoadManifest(s.bundle)
	if err != nil || strings.Join(m.Paths(), " ") != "a.whl b.whl conf/deep/er/x empty x/y/b.whl" {
		t.Errorf("%v %v", m, err)
	}
	if sum := m["a.whl"].SHA256; sum != "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0" {
		t.Errorf("SHA-256 %s", sum)
	}
	if p := e.progress[len(e.progress)-1]; p.Done != p.Total || p.Unit != "bytes" {
		t.Errorf("%+v", p)
	}
}

func TestCopyAgain(t *testing.T) {
	s := newCopySite(t)
	s.write("a", "one")
	old := time.Now().Add(-time.Hour)
	source := filepath.Join(s.env.Dir, "a")
	age := func(name string) {
		t.Helper()
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	inode := func() os.FileInfo {
		t.Helper()
		info, err := os.Stat(s.inBundle("a"))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	age(source)
	want(t, first(s.run("local copy a")), OK)
	before := inode()
	want(t, first(s.run("local copy a")), OK, "1 of them there already")
	if !os.SameFile(before, inode()) {
		t.Error("an equal file was written again")
	}
	s.write("a", "two")
	age(source)
	want(t, first(s.run("local copy a")), OK, "3 bytes")
	if s.content("a") != "two" || os.SameFile(before, inode()) {
		t.Error("not replaced by a rename")
	}
	// Changed in the bundle by hand.
	if err := os.WriteFile(s.inBundle("a"), []byte("TWO"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("local copy a")), OK, "3 bytes")
	if s.content("a") != "two" {
		t.Error(s.content("a"))
	}
	entries, err := os.ReadDir(s.bundle.path)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v %v", entries, err)
	}
}

func TestCopyRefuses(t *testing.T) {
	s := newCopySite(t)
	s.write("a/x", "1")
	s.write("b/x", "2")
	s.write(".conc-owner.json", "{}")
	want(t, first(s.run("local copy a/x no*where")), Failed, "no*where")
	if entries, err := os.ReadDir(s.bundle.path); err != nil || len(entries) > 0 {
		t.Errorf("copied: %v %v", entries, err)
	}
	want(t, first(s.run("local copy a/x b/x")), Failed, "would both become x")
	want(t, first(s.run("local copy a/x a/*")), OK)
	want(t, first(s.run("local copy .conc-owner.json")), Failed, "owner record")
	if err := os.Symlink("/nowhere", filepath.Join(s.env.Dir, "b/dangling")); err != nil {
		t.Fatal(err)
	}
	want(t, first(s.run("local copy b")), Failed, "dangling")
	// A folder where the file shall be.
	if err := os.Mkdir(s.inBundle("y"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("y", "3")
	want(t, first(s.run("local copy y")), Failed, "y")
}

func TestCopyFolderWithGlobCharacters(t *testing.T) {
	s := newCopySite(t)
	s.env.Dir = filepath.Join(s.env.Dir, "a[b]*c")
	s.write("x", "1")
	want(t, first(s.run("local copy x")), OK)
}

func TestCopyOddNames(t *testing.T) {
	s := newCopySite(t)
	// As long as a name can be; delivered, changed, and delivered again.
	long := "d/" + strings.Repeat("n", 255)
	for _, text := range []string{"one", "two"} {
		s.write(long, text)
		want(t, first(s.run("local copy d")), OK, "3 bytes")
		if got := s.content(long); got != text {
			t.Errorf("%q", got)
		}
	}
	if got := entries(t, s.inBundle("d")); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
	// A name that JSON cannot carry.
	s.write("latin/caf\xe9", "x")
	want(t, first(s.run("local copy latin")), Failed, `caf\xe9" is not in UTF-8`, "rename it")
	if _, err := os.Stat(s.inBundle("latin")); err == nil {
		t.Error("it was begun")
	}
}
