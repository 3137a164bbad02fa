package fs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// serveEnv makes the test binary serve a mount: a process must not work on a
// mount of its own.
const serveEnv = "BUNDLEFS_TEST_SERVE"

// mountSpec is what the serving process is told.
type mountSpec struct {
	Target     remote.Target
	Mountpoint string
	Root       string
	Timeouts   time.Duration
	Debug      bool
	Timeout    time.Duration
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(serveEnv); spec != "" {
		if err := serveMount(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serveMount(spec string) error {
	var s mountSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	level := slog.LevelInfo
	if s.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, err := fs.Mount(ctx, s.Mountpoint, fs.Options{
		Dial: func(ctx context.Context) (fs.Conn, error) {
			return remote.Dial(ctx, s.Target, remote.Options{Log: log})
		},
		Root:         s.Root,
		Name:         "node:" + s.Root,
		EntryTimeout: s.Timeouts, AttrTimeout: s.Timeouts, NegativeTimeout: s.Timeouts,
		Timeout: s.Timeout,
		Debug:   s.Debug,
		Log:     log,
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	select {
	case <-server.Done():
	case <-ctx.Done():
		if err := server.Unmount(); err != nil {
			return err
		}
	}
	return server.Close()
}

// mount is a mounted folder of a node under test.
type mount struct {
	Dir  string // here
	Node string // the same folder on the node, which is this machine
	cmd  *exec.Cmd
}

// newMount mounts a fresh folder of the node.
func newMount(t *testing.T, n *testnode.Node, target remote.Target) *mount {
	t.Helper()
	root := "mounted"
	m := &mount{Dir: t.TempDir(), Node: filepath.Join(n.Home, root)}
	if err := os.Mkdir(m.Node, 0o755); err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(mountSpec{
		Target: target, Mountpoint: m.Dir, Root: root, Timeouts: time.Second,
		Debug: os.Getenv("BUNDLEFS_TEST_DEBUG") != "",
	})
	if err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), serveEnv+"="+string(spec))
	m.cmd.Stderr = os.Stderr
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.stop(t) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("mount process said %q, %v", line, err)
	}
	return m
}

// stop ends the mount; it must not be busy any more.
func (m *mount) stop(t *testing.T) {
	t.Helper()
	m.cmd.Process.Signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("mount process: %v", err)
		if err := exec.Command("umount", "-l", m.Dir).Run(); err != nil {
			t.Logf("umount -l: %v", err)
		}
	}
}

// fresh makes an empty folder in the mount for one test.
func (m *mount) fresh(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(m.Dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
