package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"bundlefs/internal/control"
	"bundlefs/internal/lease"
	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
)

// served mounts without a mount point, so that it goes without FUSE, and ends that with the test.
func served(t *testing.T, cfg Config) *Bundle {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oldMount answers like the mount of an older program.
type oldMount struct {
	ctl      atomic.Pointer[control.Server]
	unmounts atomic.Int32
}

func (m *oldMount) Handle(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error) {
	switch op {
	case "status":
		return map[string]any{"version": "0.0.1-old", "pid": os.Getpid(), "connected": true}, nil
	case "unmount":
		m.unmounts.Add(1)
		go m.ctl.Load().Close()
	}
	return struct{}{}, nil
}

// After an upgrade, a mount of the program before is told of, and made again by mount.
func TestMountOfAnotherVersion(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	b := mustLock(t, cfg)
	st, _ := b.State()
	old := new(oldMount)
	ctl, err := control.Listen(b.place(&st), old)
	if err != nil {
		t.Fatal(err)
	}
	old.ctl.Store(ctl)
	defer ctl.Close()
	if s, err := b.Status(t.Context()); err != nil || !strings.Contains(s.Problem, "0.0.1-old") || !strings.Contains(s.Problem, "conc mount n1") {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := b.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if old.unmounts.Load() != 1 {
		t.Errorf("unmounted %d times", old.unmounts.Load())
	}
	if s, err := b.Status(t.Context()); err != nil || s.Problem != "" || s.Health != HealthServed {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := b.Mount(t.Context()); err != nil || old.unmounts.Load() != 1 { // and once only
		t.Errorf("mounted again: %v", err)
	}
	mustClose(t, b)
	noState(t, cfg)
}

// The program that mounts is this one, whatever is called bundlefs on PATH.
func TestAnotherBundlefsOnPath(t *testing.T) {
	n := testnode.Start(t)
	dir := t.TempDir()
	used := filepath.Join(dir, "used")
	if err := os.WriteFile(filepath.Join(dir, "bundlefs"), []byte("#!/bin/sh\n: >'"+used+"'\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	cfg := config(t, n, "b")
	b := served(t, cfg)
	if !b.Mounted(t.Context()) {
		t.Error("not mounted")
	}
	mustClose(t, b)
	if _, err := os.Stat(used); err == nil {
		t.Error("the other one was started")
	}
}

// A mount program that was started for nothing ends without having done anything, and nothing of it
// shows the token.
func TestBlockedLeavesNoMountProgram(t *testing.T) {
	n := testnode.Start(t)
	mark := "BUNDLE_TEST_MARK=" + newToken()
	t.Setenv("BUNDLE_TEST_MARK", strings.TrimPrefix(mark, "BUNDLE_TEST_MARK="))
	cfg := config(t, n, "b")
	b := served(t, cfg)
	programs := proc.Marked(mark)
	if len(programs) != 1 || strings.Contains(programs[0].String(), b.Token()) || !strings.Contains(programs[0].String(), "exclusive=-") {
		t.Errorf("programs: %v", programs)
	}
	second := config(t, n, "b")
	if _, err := Open(t.Context(), second); !errors.Is(err, ErrBlocked) {
		t.Errorf("open: %v", err)
	}
	if now := proc.Marked(mark); len(now) != 1 || now[0].PID != programs[0].PID {
		t.Errorf("programs: %v", now)
	}
	noState(t, second)
	mustClose(t, b)
	eventually(t, "the mount program ends", func() bool { return len(proc.Marked(mark)) == 0 })
	empty(t, n.Home)
}

// A cache that cannot be used is found before anything is locked.
func TestUnusableSpools(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.SpoolsDir = filepath.Join(file, "cache")
	_, err := Open(t.Context(), cfg)
	var h interface{ Hint() string }
	if !errors.Is(err, syscall.ENOTDIR) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "XDG_STATE_HOME") {
		t.Errorf("open: %v", err)
	}
	empty(t, n.Home)
	noState(t, cfg)
	// It became unusable when the bundle was open already: nothing can be only there.
	cfg = config(t, n, "b")
	b := mustLock(t, cfg)
	if err := os.WriteFile(cfg.SpoolsDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Mount(t.Context()); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("mount: %v", err)
	}
	mustClose(t, b)
	empty(t, n.Home)
	noState(t, cfg)
}

func TestCacheOfAnotherUser(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		if os.Getuid() == 0 {
			notRoot() // this thread only, which ends with the goroutine
		}
		result <- usableSpools(closed, "n1", true)
	}()
	if err := <-result; !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "no place for what is not sent yet") {
		t.Errorf("got %v", err)
	}
	st := &State{Spools: closed, Record: Record{Token: newToken()}}
	if at := st.spool(); at != "" {
		t.Errorf("a spool %s", at)
	}
}

// What the mount program left in the spool cannot be removed: the node is unlocked all the same.
func TestTakenBackBesideASpool(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "x/b")
	var spool string
	cfg.BundlefsCommand = []string{"/bin/sh", "-c", `read -r token; d=$BUNDLEFS_SPOOLS/bundlefs/spool-$(printf %s "$token" | sha256sum | cut -c1-32)
		mkdir -p "$d/x" && echo "$d" >"$BUNDLEFS_SPOOLS/where" && if [ "$(id -u)" = 0 ]; then mount --bind "$d" "$d"; else chmod 0 "$d"; fi
		echo "bundlefs: it does not work" >&2; exit 1`}
	b := mustNew(t, cfg)
	defer func() {
		if spool != "" {
			syscall.Unmount(spool, syscall.MNT_DETACH)
			os.Chmod(spool, 0o700)
		}
	}()
	err := b.Open(t.Context())
	text, _ := os.ReadFile(filepath.Join(cfg.SpoolsDir, "where"))
	spool = strings.TrimSpace(string(text))
	if err == nil || !strings.Contains(err.Error(), "it does not work") {
		t.Errorf("open: %v", err)
	}
	if spool == "" || !strings.HasPrefix(spool, filepath.Dir(lease.Spool(cfg.SpoolsDir, ""))) {
		t.Errorf("spool %q", spool)
	}
	if _, serr := os.Lstat(spool); serr == nil && !strings.Contains(err.Error(), spool) {
		t.Errorf("not told of %s: %v", spool, err)
	}
	empty(t, n.Home)
	noState(t, cfg)
}
