package mountpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/control"

	"golang.org/x/sys/unix"
)

func TestFind(t *testing.T) {
	const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
80 22 0:50 / /mnt/a\040b rw,nosuid,nodev,relatime shared:9 - fuse.sshfs old@host: rw,user_id=0
81 80 0:51 / /mnt/a\040b rw,nosuid,nodev,relatime - fuse.bundlefs me@host:di\134r rw,user_id=7
82 22 0:52 / /mnt/none rw -  proc  rw
`
	all, err := list(strings.NewReader(table))
	m := find(all, "/mnt/a b")
	want := Mount{ID: 81, Device: "0:51", Path: "/mnt/a b", Type: "fuse.bundlefs", Source: `me@host:di\r`, Options: "rw,user_id=7"}
	if err != nil || m == nil || *m != want {
		t.Errorf("got %+v %v, want %+v", m, err, want)
	}
	if m := find(all, "/mnt"); m != nil {
		t.Errorf("/mnt: %+v, want nothing", m)
	}
	for _, bad := range []string{"x", "a b c d e f - g h", "1 2 3 4 5", "1 2 3:4 / /x rw - t"} {
		if m, err := list(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
	if m, err := Find("/proc"); err != nil || m == nil || m.Type != "proc" {
		t.Errorf("/proc: %+v %v", m, err)
	}
}

func TestUnmountNothing(t *testing.T) {
	if err := Unmount(t.TempDir(), false); err == nil {
		t.Error("unmounted a folder that was not mounted")
	}
	if Dead(t.TempDir()) {
		t.Error("a folder is a dead mount")
	}
}

// folder is a folder of mode 0751, with records in a folder of the test.
func folder(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	path, err := control.Canonical(filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o751)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := Recover(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode().Perm()
}

func records(t *testing.T) []string {
	t.Helper()
	got, err := filepath.Glob(filepath.Join(os.Getenv("XDG_STATE_HOME"), "bundlefs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCover(t *testing.T) {
	path := folder(t)
	c, err := NewCover(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(records(t)) != 1 || mode(t, path) != 0o751 {
		t.Errorf("before: records %v, mode %o", records(t), mode(t, path))
	}
	if err := c.Protect(); err != nil {
		t.Fatal(err)
	}
	// Root is kept out by the flag only, which not every filesystem has.
	if os.WriteFile(filepath.Join(path, "x"), nil, 0o600) == nil && (os.Getuid() != 0 || immutable(t, path)) {
		t.Error("a covered folder was written to")
	}
	if mode(t, path) != coveredMode {
		t.Errorf("covered: mode %o", mode(t, path))
	}
	for range 2 {
		if err := c.Restore(); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "x"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if len(records(t)) != 0 || mode(t, path) != 0o751 {
		t.Errorf("after: records %v, mode %o", records(t), mode(t, path))
	}
}

func immutable(t *testing.T, path string) bool {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st); err != nil {
		t.Fatal(err)
	}
	return st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0
}

func TestRecover(t *testing.T) {
	path := folder(t)
	cover := func() {
		t.Helper()
		c, err := NewCover(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Protect(); err != nil {
			t.Fatal(err)
		}
		c.dir.Close() // as a killed process leaves it
	}
	cover()
	if done, err := Recover(path); !done || err != nil || mode(t, path) != 0o751 {
		t.Errorf("got %v %v, mode %o", done, err, mode(t, path))
	}
	if done, err := Recover(path); done || err != nil {
		t.Errorf("again: got %v %v", done, err)
	}

	// A folder that was opened by hand, or is another one, is left alone.
	cover()
	if rec := (&record{Path: path, Mode: 0o755}); rec.restoreAt(path) != nil {
		t.Fatal("by hand")
	}
	if done, err := Recover(path); done || err != nil || mode(t, path) != 0o755 || len(records(t)) != 0 {
		t.Errorf("by hand: got %v %v, mode %o, records %v", done, err, mode(t, path), records(t))
	}
	cover()
	if err := errors.Join((&record{Path: path, Mode: 0o755}).restoreAt(path), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if done, err := Recover(path); done || err != nil || len(records(t)) != 0 {
		t.Errorf("gone: got %v %v, records %v", done, err, records(t))
	}
}

// restoreAt does by hand what chattr and chmod would.
func (r *record) restoreAt(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.restore(dir)
}

func TestRecordUnreadable(t *testing.T) {
	path := folder(t)
	dir := filepath.Join(os.Getenv("XDG_STATE_HOME"), "bundlefs")
	file := filepath.Join(dir, control.Name(path)+".under")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(path); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error naming %s", err, file)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func TestNoRecordFolder(t *testing.T) {
	path := folder(t)
	t.Setenv("XDG_STATE_HOME", filepath.Join(path, "file"))
	t.Setenv("HOME", filepath.Join(path, "file"))
	if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The folder of the sockets is the last resort.
	c, err := NewCover(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Restore(); err != nil {
		t.Error(err)
	}
	if _, err := NewCover(filepath.Join(path, "file")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`/plain`:     "/plain",
		`/a\040b`:    "/a b",
		`/a\134040`:  `/a\040`,
		`/ends\04`:   `/ends\04`,
		`/no\octal9`: `/no\octal9`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
