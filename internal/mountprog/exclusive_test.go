package mountprog

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/lease"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/testnode"
)

// newExclusiveBench is a bench with a bundle on the node, whose owner has the token
// "ours", mounted through a link.
func newExclusiveBench(t *testing.T, uid int) (*bench, *testnode.Link, string) {
	b := newBench(t, uid)
	state := filepath.Join(b.dir, "spools")
	bundle := filepath.Join(b.node.Home, "bundle")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, uid, -1), os.Mkdir(bundle, 0o755)); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "XDG_STATE_HOME="+state)
	setOwner(t, bundle, "ours")
	l := testnode.NewLink(t, b.node.Addr)
	b.viaLink(l)
	return b, l, bundle
}

func setOwner(t *testing.T, bundle, token string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(bundle, lease.RecordName), fmt.Appendf(nil, `{"token":%q}`, token), 0o600); err != nil {
		t.Fatal(err)
	}
}

// exclusive are the arguments of a mount in exclusive mode, through the link.
func (b *bench) exclusive(l *testnode.Link, token string) []string {
	return b.args("bundle", "-p", fmt.Sprint(l.Port()), "-o", "exclusive="+token)
}

// spools are the folders of what is not sent.
func (b *bench) spools() []string {
	l, _ := filepath.Glob(filepath.Join(b.dir, "spools", "bundlefs", "spool-*"))
	return l
}

func (b *bench) cut(l *testnode.Link) {
	l.Refuse()
	l.Reset()
}

// same compares the mount with the folder on the node, which may be another user's.
func (b *bench) same(bundle string) {
	b.t.Helper()
	const tell = `cd "$1" && find . -printf '%P %y %m %l\n' | sort && find . -type f | sort | xargs cksum`
	here := b.must("sh", "-c", tell, "sh", b.mountpoint)
	there, err := exec.Command("sh", "-c", tell, "sh", bundle).CombinedOutput()
	if err != nil || string(there) != here {
		b.t.Errorf("on the node, %v:\n%s\nin the mount:\n%s", err, there, here)
	}
}

// killed ends the mount process with kill -9 and cleans the dead mount up.
func (b *bench) killed() {
	b.t.Helper()
	pid := b.status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
	await(b.t, "the mount process ends", func() bool { return dead(pid) })
	if b.uid == 0 {
		b.must("umount", "-l", b.mountpoint)
	} else {
		b.must("fusermount3", "-uz", b.mountpoint)
	}
}

// TestKilledExclusive kills bundlefs while the link is cut, and mounts again: what programs
// had written is there at once, and on the node after the barrier.
func TestKilledExclusive(t *testing.T) {
	forEachUser(t, func(t *testing.T, b *bench) {
		b, l, bundle := newExclusiveBench(t, b.uid)
		b.must("bundlefs", b.exclusive(l, "ours")...)
		work := `set -e; cd "$1"; mkdir -p a/b; echo one >a/b/one; echo two >two; mv two a/two; ln -s one a/b/link; chmod 750 a/b/one
			head -c 3000000 /dev/urandom >big; cp big a/copy; echo more >>big; cat big a/b/one a/two | cksum`
		before := b.must("sh", "-c", work, "sh", b.mountpoint)
		b.must("bundlefs", "sync", b.mountpoint)
		b.cut(l)
		after := b.must("sh", "-c", `set -e; cd "$1"; mv a c; echo three >>c/b/one; rm c/copy; dd if=/dev/zero of=big bs=1k seek=100 count=200 conv=notrunc 2>/dev/null
			echo new >new; mv new c/two; cat c/b/one c/two | cksum`, "sh", b.mountpoint)
		b.killed()
		l.Heal()
		b.must("bundlefs", b.exclusive(l, "ours")...)
		if got := b.must("sh", "-c", `cd "$1" && cat c/b/one c/two | cksum`, "sh", b.mountpoint); got != after {
			t.Errorf("after mounting again: %q, want %q (before: %q)", got, after, before)
		}
		b.must("bundlefs", "sync", b.mountpoint)
		b.same(bundle)
		b.killed()

		// The node goes away instead, with all its sessions.
		b.must("bundlefs", b.exclusive(l, "ours")...)
		b.must("ls", "-R", b.mountpoint) // what was looked at is known without the node
		b.node.Kill()
		b.must("sh", "-c", `cd "$1" && echo while it is away >away && mv away c/away`, "sh", b.mountpoint)
		b.node.Restart()
		b.must("bundlefs", "sync", b.mountpoint)
		b.same(bundle)
		pid := b.status().PID
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(pid)
		if left := b.spools(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestMountWhileSending unmounts while the link is cut and something is pending: who mounts
// again is told what the former mount is at, and can when that has sent it.
func TestMountWhileSending(t *testing.T) {
	b, l, bundle := newExclusiveBench(t, os.Getuid())
	b.must("bundlefs", b.exclusive(l, "ours")...)
	pid := b.status().PID
	b.cut(l)
	b.must("sh", "-c", `echo 12345 >"$1/f"`, "sh", b.mountpoint)
	b.must("fusermount3", "-u", b.mountpoint)
	await(t, "it is unmounted", func() bool { return b.find() == nil })
	if out := b.must("bundlefs", "status", b.mountpoint); !strings.Contains(out, "unmounted") {
		t.Errorf("status: %s", out)
	}
	b.fails(fmt.Sprintf("its process %d is still sending 1 files, 6 bytes", pid), "wait until it ends", "bundlefs", b.exclusive(l, "ours")...)
	l.Heal()
	b.gone(pid)
	b.must("bundlefs", b.exclusive(l, "ours")...)
	b.same(bundle)
	pid = b.status().PID
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
}

// TestSecondMount has two mounts of one bundle, and one with a wrong token.
func TestSecondMount(t *testing.T) {
	b, l, _ := newExclusiveBench(t, os.Getuid())
	b.fails("lock lost", "", "bundlefs", b.exclusive(l, "theirs")...)
	if left := b.spools(); len(left) > 0 {
		t.Errorf("left by a wrong token: %v", left)
	}
	b.must("bundlefs", b.exclusive(l, "ours")...)
	pid := b.status().PID
	first, second := b.mountpoint, filepath.Join(b.dir, "second")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	b.mountpoint = second
	b.fails(fmt.Sprintf("in use by process %d", pid), "", "bundlefs", b.exclusive(l, "ours")...)
	if m := b.find(); m != nil {
		t.Errorf("mounted twice: %+v", m)
	}
	b.mountpoint = first
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
}

// TestLockLost takes the lock away under a mount: it is read-only, can be
// unmounted, and keeps what is not sent.
func TestLockLost(t *testing.T) {
	b, l, bundle := newExclusiveBench(t, os.Getuid())
	b.must("bundlefs", b.exclusive(l, "ours")...)
	b.cut(l)
	b.must("sh", "-c", `echo not sent >"$1/new"`, "sh", b.mountpoint)
	setOwner(t, bundle, "theirs")
	l.Heal()
	await(t, "the loss is noticed", func() bool { return b.status().Fence != "" })
	if out := b.must("bundlefs", "status", b.mountpoint); !strings.Contains(out, "lock lost") {
		t.Errorf("status: %s", out)
	}
	if err := os.WriteFile(filepath.Join(b.mountpoint, "later"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(b.mountpoint, "new")); string(got) != "not sent\n" || err != nil {
		t.Errorf("reading: %q %v", got, err)
	}
	pid := b.status().PID
	b.fails("lock lost", "", "bundlefs", "sync", b.mountpoint)
	// What is not sent can still be copied elsewhere; who does not want that unmounts it.
	b.fails("lock lost", "copy what is needed", "bundlefs", "unmount", b.mountpoint)
	if b.uid == 0 {
		b.must("umount", b.mountpoint)
	} else {
		b.must("fusermount3", "-u", b.mountpoint)
	}
	b.gone(pid)
	if m, err := mountpoint.Find(b.mountpoint); m != nil || err != nil {
		t.Errorf("still mounted: %+v %v", m, err)
	}
	left := b.spools()
	if len(left) != 1 {
		t.Fatalf("spools: %v", left)
	}
	b.fails("kept in "+left[0], "remove "+left[0], "bundlefs", b.exclusive(l, "ours")...)
	if _, err := os.Stat(filepath.Join(bundle, "new")); err == nil {
		t.Error("sent without the lock")
	}
	setOwner(t, bundle, "ours")
	b.must("bundlefs", b.exclusive(l, "ours")...)
	pid = b.status().PID
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
	if got, err := os.ReadFile(filepath.Join(bundle, "new")); string(got) != "not sent\n" || err != nil {
		t.Errorf("on the node: %q %v", got, err)
	}
}
