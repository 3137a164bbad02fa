package vfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// mountsEnv says that the process may mount file systems, which nobody else sees.
const mountsEnv = "VFS_TEST_MOUNTS"

// ownMounts runs the test in a process that has mounts of its own, which needs no root.
// It returns true there, and false, when the test has run, to who has called it first.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountsEnv) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", testnode.DetachFUSE+`exec "$@"`, "sh", self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mountsEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = mountsOfItsOwn()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("in a process with mounts of its own: %v", err)
	}
	return false
}

// mountsOfItsOwn gives a process mounts of its own; who is not root is taken for root
// in it, and may do no more than before.
func mountsOfItsOwn() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// local is a folder of a node without SSH that is mounted.
type local struct {
	contract.VFS
	x    *vfs.Exclusive
	link *localNode
	root string // the folder on the node
}

func newLocal(t *testing.T, home string) *local {
	t.Helper()
	l := &local{link: &localNode{home: home}, root: filepath.Join(home, fresh(t, home))}
	x, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
		Dial: l.link.dial, Root: filepath.Base(l.root), Spool: filepath.Join(t.TempDir(), "spool"), Sessions: 1, Timeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	l.x, l.VFS = x, contract.VFS{Files: x, Root: vfs.RootIno}
	return l
}

// smallDisk makes a node whose home is a file system of 4 MiB, in a process with mounts
// of its own.
func smallDisk(t *testing.T) (disk string, l *local) {
	t.Helper()
	disk = t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk, newLocal(t, disk)
}

// A quota on the node, as it is seen over SFTP: a write fails for no reason that is
// told, in the middle of a file, and there is space on the disk.
func TestQuota(t *testing.T) {
	l := newLocal(t, t.TempDir())
	limit := func(kib int) {
		l.link.cut(true)
		l.link.limit.Store(int64(kib))
		l.link.cut(false)
	}
	put(t, l, "old", whole(1, 50_000))
	synced(t, l.x)
	limit(100)
	put(t, l, "small", whole(2, 50_000))
	put(t, l, "big", whole(3, 400_000))
	put(t, l, "old", whole(4, 300_000))
	if err := l.Rename("big", "renamed", false); err != nil {
		t.Fatal(err)
	}
	if got := refusals(t, l.x, syscall.EIO); !slices.Equal(got, []string{"old", "renamed"}) {
		t.Errorf("refused %q", got)
	}
	if err := isWhole(filepath.Join(l.root, "small")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(l.root, "renamed")); err == nil {
		t.Error("a file that was renamed is there before its content")
	}
	for name, want := range map[string][]byte{"renamed": whole(3, 400_000), "old": whole(4, 300_000)} {
		if got, err := readTree(l, name); err != nil || string(got) != string(want) {
			t.Errorf("%s reads otherwise than written: %d bytes, %v", name, len(got), err)
		}
	}
	limit(0)
	l.x.Retry("")
	arrives(t, l.x, l.root)
}

// withLimit is the command of an sftp-server that can make no file larger than so many
// KiB, and is told so by errors.
func withLimit(kib int64) *exec.Cmd {
	return exec.Command("/bin/bash", "-c", fmt.Sprintf("trap '' XFSZ; ulimit -f %d; exec %s", kib, sftpServer()))
}
