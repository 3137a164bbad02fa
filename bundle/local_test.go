package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestLocalFolder(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	top := filepath.Join(t.TempDir(), "made")
	cfg.MountPoint = filepath.Join(top, "by", "us")
	b := mustLock(t, cfg)
	if err := b.MakeLocal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(cfg.MountPoint); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
	mustClose(t, mustNew(t, cfg))
	if _, err := os.Stat(top); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

func TestLocalFolderOfOthersStays(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	cfg.MountPoint = filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(cfg.MountPoint, 0o755); err != nil {
		t.Fatal(err)
	}
	b := mustLock(t, cfg)
	if err := b.MakeLocal(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	if _, err := os.Stat(cfg.MountPoint); err != nil {
		t.Error(err)
	}
}

// The local folder is not empty: the lock is taken back.
func TestOpenTakesBack(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "x/b")
	cfg.MountPoint = t.TempDir()
	file := filepath.Join(cfg.MountPoint, "mine")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `not empty: it holds "mine"`) {
		t.Errorf("open: %v", err)
	}
	empty(t, n.Home)
	noState(t, cfg)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// The mount program fails: what it said is the error, the lock is taken back.
func TestMountFails(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	cfg.MountPoint = filepath.Join(t.TempDir(), "m")
	cfg.BundlefsCommand = []string{"/bin/sh", "-c", `echo "bundlefs: no /dev/fuse" >&2; echo "bundlefs: hint: load the module" >&2; exit 1`}
	_, err := Open(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), ": no /dev/fuse") {
		t.Fatalf("open: %v", err)
	}
	if h, ok := err.(interface{ Unwrap() []error }); ok {
		err = h.Unwrap()[0]
	}
	if h, ok := err.(interface{ Hint() string }); !ok || h.Hint() != "load the module" {
		t.Errorf("hint of %v", err)
	}
	empty(t, n.Home)
	noState(t, cfg)
	if _, err := os.Stat(cfg.MountPoint); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	// One that says it has mounted, and has not.
	cfg.BundlefsCommand = []string{"/bin/true"}
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "without mounting") {
		t.Errorf("open: %v", err)
	}
	empty(t, n.Home)
}

func TestBundlefsArgs(t *testing.T) {
	got := BundlefsArgs(remote.Target{
		Host: "fe80::1", User: "me", Port: 2222, IdentityFile: `/k,1\2`, Jump: "a,b", Config: "none",
		Options: map[string]string{"UserKnownHostsFile": "/kh", "ConnectTimeout": "5"},
	}, "a/b", "/m", "fsname=x")
	want := []string{"me@[fe80::1]:a/b", "/m", "-p", "2222", "-F", "none", "-o", `IdentityFile=/k\,1\\2`, "-o", `ProxyJump=a\,b`,
		"-o", "ConnectTimeout=5", "-o", "UserKnownHostsFile=/kh", "-o", "fsname=x"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := BundlefsArgs(remote.Target{Host: "h"}, "b", "/m"); !reflect.DeepEqual(got, []string{"h:b", "/m"}) {
		t.Errorf("got %q", got)
	}
}

func TestUsersOfAFolder(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "in use"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("cat")
	cmd.Dir = dir
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer input.Close()
	// We use it too, which is not told like that.
	e := busy(dir, 0)
	if len(e.Users) != 1 || e.Users[0].PID != cmd.Process.Pid || e.Users[0].String() != fmt.Sprintf("%d cat (cwd)", cmd.Process.Pid) || !e.Inside {
		t.Errorf("got %+v", e)
	}
	if !strings.Contains(e.Hint(), "'cd'") {
		t.Errorf("hint %q", e.Hint())
	}
	if e := busy(dir, cmd.Process.Pid); len(e.Users) != 0 || !strings.Contains(e.Error(), "started in it") {
		t.Errorf("the server is listed: %v", e)
	}
}

// Opening is interrupted while the mount program starts: it is ended, and the
// lock taken back.
func TestOpenInterrupted(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	cfg.MountPoint = filepath.Join(dir, "m")
	cfg.BundlefsCommand = []string{"/bin/sh", "-c", `echo $$ > "$0"; exec sleep 1000`, started}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { _, err := Open(ctx, cfg); result <- err }()
	var pid string
	eventually(t, "the mount program starts", func() bool {
		text, _ := os.ReadFile(started)
		pid = strings.TrimSpace(string(text))
		return pid != ""
	})
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat("/proc/" + pid); !os.IsNotExist(err) {
		t.Errorf("process %s is left", pid)
	}
	empty(t, n.Home)
	noState(t, cfg)
	if _, err := os.Stat(cfg.MountPoint); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

// What is mounted there is not the bundle: it is not taken for it, nor unmounted.
func TestSomethingElseIsMounted(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	cfg.MountPoint = "/proc"
	_, err := Open(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "something else is mounted there: proc") {
		t.Errorf("open: %v", err)
	}
	empty(t, n.Home)
	noState(t, cfg)
}
