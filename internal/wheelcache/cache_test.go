package wheelcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put puts a wheel with this content.
func put(t *testing.T, c *Cache, key, content string) string {
	t.Helper()
	dir, done, err := c.Temp()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	file := filepath.Join(dir, "a-1-py3-none-any.whl")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	placed, err := c.Put(key, file)
	if err != nil {
		t.Fatal(err)
	}
	return placed
}

func key(digit string) string { return strings.Repeat(digit, 64) }

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x", "wheels")
	c := open(t, dir, 1<<20)
	if file, err := c.Get(key("1")); file != "" || err != nil {
		t.Errorf("%q %v", file, err)
	}
	if _, err := c.Get("../x"); err == nil {
		t.Error("a key that is a path is taken")
	}
	file := put(t, c, key("1"), "one")
	if got, err := c.Get(key("1")); got != file || err != nil {
		t.Errorf("%q %v, want %q", got, err, file)
	}
	if again := put(t, c, key("1"), "one"); again != file {
		t.Errorf("put twice: %q", again)
	}
	if err := os.WriteFile(file, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(key("1")); got != "" || err != nil {
		t.Errorf("a damaged wheel is given: %q %v", got, err)
	}
	put(t, c, key("1"), "one")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, tempMark+"*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestLimit(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 2500)
	for i, digit := range []string{"1", "2", "3"} {
		file := put(t, c, key(digit), strings.Repeat("x", 1000))
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Dir(file), used, used); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(key("1")); err != nil { // now it is the one that was used last
		t.Fatal(err)
	}
	other := open(t, dir, 2500)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if file, err := other.Get(key("2")); file == "" || err != nil {
		t.Errorf("removed under another process: %v", err)
	}
	old := time.Now().Add(-9 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, key("2")), old, old); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, 2500)
	defer c.Close()
	for digit, there := range map[string]bool{"1": true, "2": false, "3": true} {
		if file, err := c.Get(key(digit)); err != nil || (file != "") != there {
			t.Errorf("%s: %q %v", digit, file, err)
		}
	}
}

// What a killed process built in is removed, what a living one builds in is not.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 1)
	defer c.Close()
	living, done, err := c.Temp()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	dead := filepath.Join(dir, tempMark+"dead")
	closed := filepath.Join(dead, "closed")
	if err := errors.Join(os.MkdirAll(closed, 0o700), os.Chmod(closed, 0o500), os.Chmod(dead, 0o500)); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, d := range []string{living, dead} {
		if err := os.Chtimes(d, old, old); err != nil {
			t.Fatal(err)
		}
	}
	other := open(t, dir, 1)
	defer other.Close()
	if _, err := os.Stat(dead); err == nil {
		t.Error("left: what a killed process built in")
	}
	if _, err := os.Stat(living); err != nil {
		t.Error(err)
	}
}
