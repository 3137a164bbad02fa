package fs_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"bundlefs/internal/testnode"
)

// notInSFTP are the tests of go-fuse's suite that ask for what SFTP does not
// have, with the reason. Every other one must pass.
var notInSFTP = map[string]string{
	"Fallocate":           "SFTP has no request to reserve space; the answer is EOPNOTSUPP",
	"FallocateKeepSize":   "as Fallocate",
	"FcntlFlockLocksFile": "expects a process to be stopped by a lock of its own, as no kernel file system does",
	"OpenSymlinkRace":     "an open whose file is replaced meanwhile may fail with ESTALE, as on NFS; TestOpenRace is stricter in all else",
	"Tmpfile":             "SFTP has no request for a file without a name",
	"XAttr":               "SFTP version 3 has no extended attributes",
	"XAttrLarge":          "SFTP version 3 has no extended attributes",
}

func TestPosix(t *testing.T) {
	n := testnode.Start(t)
	posix(t, newMountWith(t, n, mountSpec{Target: n.Target(), LinksOut: true}))
}

func TestPosixExclusive(t *testing.T) {
	n := testnode.Start(t)
	posix(t, newMountWith(t, n, mountSpec{Target: n.Target(), LinksOut: true, Spool: filepath.Join(t.TempDir(), "spool")}))
}

// posix runs the suite on a mount whose links may lead out, as one of its tests wants.
func posix(t *testing.T, m *mount) {
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if notInSFTP[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			posixtest.All[name](t, m.fresh(t))
		})
	}
}

// TestOpenRace opens a name while a file and a symbolic link take turns under it:
// what is opened is the one or the other as the kernel sees them, and never the
// link's target as the node sees it.
func TestOpenRace(t *testing.T) {
	n := testnode.Start(t)
	m := newMountWith(t, n, mountSpec{Target: n.Target(), LinksOut: true})
	dir := m.fresh(t)
	name, other := filepath.Join(dir, "name"), filepath.Join(dir, "other")
	outside := filepath.Join(n.Home, "outside") // where the node would follow the link to
	if err := os.WriteFile(outside, []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	mounted := st.Dev
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			if err = os.WriteFile(other, nil, 0o644); err == nil {
				err = os.Rename(other, name)
			}
			if err == nil {
				err = os.Symlink(outside, other)
			}
			if err == nil {
				err = os.Rename(other, name)
			}
		}
		done <- err
	}()
	for opened := 0; ; opened++ {
		select {
		case err := <-done:
			if err != nil || opened == 0 {
				t.Errorf("%d opens, %v", opened, err)
			}
			return
		default:
		}
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == syscall.ESTALE || err == syscall.EINVAL || err == syscall.ENOENT {
			continue // replaced between two steps of the kernel
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if err := syscall.Fstat(fd, &st); err != nil {
			t.Error(err)
		} else if st.Size > 0 && st.Dev == mounted {
			t.Error("the node has followed the link")
		}
		syscall.Close(fd)
	}
}

// A link that leads out of the mount is refused by the kernel's own steps, by
// whatever way somebody comes to it; one that stays inside works.
func TestLinksStayInside(t *testing.T) {
	n := testnode.Start(t)
	for mode, spec := range map[string]mountSpec{"shared": {Root: "s"}, "exclusive": {Root: "x", Spool: filepath.Join(t.TempDir(), "spool")}} {
		t.Run(mode, func(t *testing.T) {
			root := filepath.Join(n.Home, spec.Root)
			if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "f"), []byte("inside"), 0o644); err != nil {
				t.Fatal(err)
			}
			for name, target := range map[string]string{
				"a/b/in": "../../f", "a/b/out": "../../../f", "a/b/abs": "/etc/passwd", "short": "a/b", "a/up": "../a/b", "a/trick": "up/../../f", "top": "a/..",
			} {
				if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
			}
			spec.Target = n.Target()
			m := newMountWith(t, n, spec)
			for name, inside := range map[string]bool{
				"a/b/in": true, "short/in": true, "a/up/in": true,
				"a/b/out": false, "short/out": false, "a/up/out": false, "a/b/abs": false, "short/abs": false, "a/trick": false, "top": false,
			} {
				got, err := os.ReadFile(filepath.Join(m.Dir, name))
				if inside && (err != nil || string(got) != "inside") {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				if !inside && !errors.Is(err, syscall.EPERM) {
					t.Errorf("%s: %q, %v, want EPERM", name, got, err)
				}
			}
		})
	}
}
