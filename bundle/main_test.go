package bundle

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bundlefs/internal/mountprog"
	"bundlefs/internal/testnode"
)

// The test binary is also the program that takes the place of a mount.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "bundlefs" {
		os.Exit(mountprog.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// config is that of a bundle on a test node, on a workstation of its own.
func config(t *testing.T, n *testnode.Node, dir string) Config {
	t.Helper()
	return Config{
		Target: n.Target(), Node: "n1", Dir: dir, MountPoint: None,
		Deploy: "/home/me/deploy.ini", StateDir: filepath.Join(t.TempDir(), "state"), SpoolsDir: filepath.Join(t.TempDir(), "cache"),
	}
}

func mustLock(t *testing.T, cfg Config) *Bundle {
	t.Helper()
	b, err := Lock(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustNew(t *testing.T, cfg Config) *Bundle {
	t.Helper()
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustClose(t *testing.T, b *Bundle) {
	t.Helper()
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// empty fails the test unless a folder has nothing in it but the names given.
func empty(t *testing.T, dir string, but ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, b := range but {
		known[b] = true
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("left in %s: %s", dir, e.Name())
		}
	}
}

// noState fails the test unless nothing is left of any bundle on the workstation.
func noState(t *testing.T, cfg Config) {
	t.Helper()
	empty(t, filepath.Join(cfg.StateDir, "bundles"))
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("in vain: %s", what)
		case <-tick.C:
		}
	}
}
