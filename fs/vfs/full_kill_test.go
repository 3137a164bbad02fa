package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpoolDiskFullKilled fills the disk of the spool while changes of names wait that must
// not be made twice, lets some be made, and kills the mount. The next one finds out which.
func TestSpoolDiskFullKilled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("who is not root cannot make a small file system")
		return
	}
	for name, noKeep := range map[string]bool{"room set aside": false, "no room at all": true} {
		t.Run(name, func(t *testing.T) { testFullKilled(t, noKeep) })
	}
}

func testFullKilled(t *testing.T, noKeep bool) {
	home, disk := t.TempDir(), t.TempDir()
	node := filepath.Join(home, "bundle")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(node, 0o755))
	must(unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size=900k"))
	t.Cleanup(func() { must(unix.Unmount(disk, unix.MNT_DETACH)) })
	const pairs = 12
	a, b := func(i int) string { return fmt.Sprint("a", i) }, func(i int) string { return fmt.Sprint("b", i) }
	for i := range pairs {
		must(os.WriteFile(filepath.Join(node, a(i)), fmt.Append(nil, "precious ", i), 0o644))
	}
	spec := crashSpec{Home: home, Root: "bundle", Spool: filepath.Join(disk, "spool"), NoKeep: noKeep}
	l := newLife(t, 1, spec, node)
	mount := func() *killed {
		k := startKilled(t, spec)
		if _, ok := k.answer(t); !ok {
			l.fail(k, "not mounted")
		}
		return k
	}
	k := mount()
	k.must(t, op{Kind: opCut})
	for i := range pairs {
		k.must(t, op{Kind: opRename, Path: a(i), To: b(i)})
		k.must(t, op{Kind: opCreate, Path: a(i), Mode: 0o644, Handle: i + 1})
		k.must(t, op{Kind: opWrite, Handle: i + 1, Data: fmt.Append(nil, "new ", i)})
		k.must(t, op{Kind: opClose, Handle: i + 1})
	}
	for n := 0; l.full(k, 1, n, 6000); n++ {
	}
	for n, full := 0, false; !full; n++ { // to the last byte
		must(k.in.Encode(op{Kind: opChmod, Path: a(0), Mode: uint32(0o600 + n%2*0o40)}))
		got, ok := k.answer(t)
		if full = got.Errno == syscall.ENOSPC; !ok || got.Errno != 0 && !full {
			l.fail(k, "chmod: %v %s", got.Errno, got.Text)
		}
	}
	k.must(t, op{Kind: opHeal})
	content := func(name string) string {
		b, err := os.ReadFile(filepath.Join(node, name))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	made := func() (n int) {
		for i := range pairs {
			if content(a(i)) == fmt.Sprint("new ", i) {
				n++
			}
		}
		return n
	}
	stuck := func() {
		t.Helper()
		must(k.in.Encode(op{Kind: opSync}))
		if got, ok := k.answer(t); !ok || got.Errno != syscall.ENOSPC {
			l.fail(k, "barrier: %v %s", got.Errno, got.Text)
		}
		if n := made(); n > 0 {
			t.Errorf("%d were made though the journal could not tell", n)
		}
	}
	if noKeep {
		stuck()
	} else {
		eventually(t, "some are made", func() bool { return made() >= 3 })
	}
	k.kill()
	k.wait()
	k = mount()
	if noKeep {
		stuck()
		must(unix.Mount("", disk, "", unix.MS_REMOUNT, "mode=0700,size=4m"))
	}
	k.must(t, op{Kind: opSync})
	for i := range pairs {
		if content(a(i)) != fmt.Sprint("new ", i) || content(b(i)) != fmt.Sprint("precious ", i) {
			t.Errorf("%s is %q, %s is %q", a(i), content(a(i)), b(i), content(b(i)))
		}
	}
	k.must(t, op{Kind: opEnd})
	k.wait()
	if _, err := os.Stat(spec.Spool); !os.IsNotExist(err) {
		t.Errorf("the spool is left: %v", err)
	}
}
