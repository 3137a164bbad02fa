package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bundlefs/internal/testnode"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func reads(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v, want %q", path, got, err, want)
	}
}

// TestMount runs what needs a kernel on one mount.
func TestMount(t *testing.T) {
	t.Cleanup(umask(0o022))
	n := testnode.Start(t)
	m := newMount(t, n, n.Target())
	for name, run := range map[string]func(t *testing.T, m *mount, dir, onNode string){
		"Mmap":           mmap,
		"MmapAppend":     mmapAppend,
		"RenameFlags":    renameFlags,
		"Statfs":         statfs,
		"CloseToOpen":    closeToOpen,
		"Appenders":      appenders,
		"DeepTree":       deepTree,
		"LargeFolder":    largeFolder,
		"OddNames":       oddNames,
		"Fifo":           fifo,
		"ChangedOnNode":  changedOnNode,
		"SpecialOnNode":  specialOnNode,
		"RemoveWhileOld": removeWhileListing,
	} {
		t.Run(name, func(t *testing.T) {
			dir := m.fresh(t)
			run(t, m, dir, filepath.Join(m.Node, filepath.Base(dir)))
		})
	}
}

// seen waits until the mount shows what was made on the node: it may remember for a
// while that the folder does not have it.
func seen(t *testing.T, path string) (info os.FileInfo) {
	t.Helper()
	eventually(t, path+" is seen", func() bool {
		var err error
		info, err = os.Lstat(path)
		return err == nil
	})
	return info
}

func mmap(t *testing.T, _ *mount, dir, onNode string) {
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 3*4096 + 100
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[4090:], "over the border of a page")
	copy(b[size-3:], "end")
	if err := unix.Msync(b, unix.MS_SYNC); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	copy(want[4090:], "over the border of a page")
	copy(want[size-3:], "end")
	reads(t, filepath.Join(onNode, "f"), string(want))
	if _, err := f.WriteAt([]byte("written"), 10); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b[10:], []byte("written")) {
		t.Errorf("the map does not show what was written: %q", b[10:20])
	}
	copy(b, "last")
	if err := syscall.Munmap(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	copy(want[10:], "written")
	copy(want, "last")
	reads(t, filepath.Join(onNode, "f"), string(want))
}

// Pages of a file that is open for appending go where they belong.
func mmapAppend(t *testing.T, _ *mount, dir, onNode string) {
	path := filepath.Join(dir, "f")
	write(t, path, "0123456789")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, 10, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[2:], "ABC")
	if err := unix.Msync(b, unix.MS_SYNC); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Munmap(b); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	reads(t, filepath.Join(onNode, "f"), "01ABC56789!")
	reads(t, path, "01ABC56789!")
}

func renameFlags(t *testing.T, _ *mount, dir, _ string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "a")
	write(t, b, "b")
	for _, c := range []struct {
		flags uint
		want  syscall.Errno
	}{
		{unix.RENAME_EXCHANGE, syscall.EINVAL},
		{unix.RENAME_WHITEOUT, syscall.EINVAL},
		{unix.RENAME_NOREPLACE, syscall.EEXIST},
	} {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, c.flags); !errors.Is(err, c.want) {
			t.Errorf("flags %d: %v, want %v", c.flags, err, c.want)
		}
	}
	reads(t, a, "a")
	reads(t, b, "b")
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, filepath.Join(dir, "c"), unix.RENAME_NOREPLACE); err != nil {
		t.Error(err)
	}
	reads(t, filepath.Join(dir, "c"), "a")
}

func statfs(t *testing.T, _ *mount, dir, onNode string) {
	var here, there unix.Statfs_t
	if err := unix.Statfs(dir, &here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statfs(onNode, &there); err != nil {
		t.Fatal(err)
	}
	if here.Blocks*uint64(here.Frsize) != there.Blocks*uint64(there.Frsize) || here.Bavail == 0 || here.Namelen != 255 {
		t.Errorf("here %+v, on the node %+v", here, there)
	}
}

func fifo(t *testing.T, _ *mount, dir, _ string) {
	if err := unix.Mkfifo(filepath.Join(dir, "p"), 0o644); !errors.Is(err, syscall.EPERM) {
		t.Errorf("%v, want EPERM", err)
	}
	if err := unix.Mknod(filepath.Join(dir, "f"), unix.S_IFREG|0o640, 0); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
}

// What only the node can make is shown as what it is.
func specialOnNode(t *testing.T, _ *mount, dir, onNode string) {
	if err := unix.Mkfifo(filepath.Join(onNode, "p"), 0o644); err != nil {
		t.Fatal(err)
	}
	if info := seen(t, filepath.Join(dir, "p")); info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("%v", info.Mode())
	}
	if err := os.Remove(filepath.Join(dir, "p")); err != nil {
		t.Error(err)
	}
}

func closeToOpen(t *testing.T, m *mount, dir, _ string) {
	n := testnode.Start(t)
	first := newMount(t, n, n.Target())
	second := newMount(t, n, n.Target())
	for i := range 20 {
		content := fmt.Sprintf("content %02d", i) // of one length, within one second
		write(t, filepath.Join(first.Dir, "f"), content)
		reads(t, filepath.Join(second.Dir, "f"), content)
		first, second = second, first
	}
}

func changedOnNode(t *testing.T, _ *mount, dir, onNode string) {
	path := filepath.Join(dir, "f")
	write(t, path, "one")
	reads(t, path, "one")
	write(t, filepath.Join(onNode, "f"), "two")
	reads(t, path, "two")
	write(t, filepath.Join(onNode, "f"), "longer")
	write(t, filepath.Join(onNode, "g"), "new")
	eventually(t, "the new size is seen", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() == 6
	})
	seen(t, filepath.Join(dir, "g"))
	reads(t, filepath.Join(dir, "g"), "new")
	if err := os.Remove(filepath.Join(onNode, "f")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is gone", func() bool {
		_, err := os.Stat(path)
		return errors.Is(err, os.ErrNotExist)
	})
}

func appenders(t *testing.T, _ *mount, dir, onNode string) {
	const writers, lines = 4, 30
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo "writer %d line $i" >> log; i=$((i+1)); done`, lines, w)
			if out, err := (*user)(nil).shell(dir, script); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	running.Wait()
	b, err := os.ReadFile(filepath.Join(onNode, "log"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	next := make([]int, writers)
	for _, line := range got {
		var w, i int
		if k, err := fmt.Sscanf(line, "writer %d line %d", &w, &i); k != 2 || err != nil || i != next[w] {
			t.Fatalf("line %q, want line %d of its writer", line, next[w])
		}
		next[w]++
	}
	if len(got) != writers*lines {
		t.Errorf("%d lines, want %d", len(got), writers*lines)
	}
}

func deepTree(t *testing.T, _ *mount, dir, onNode string) {
	deep := strings.Repeat("/twenty characters  ", 60)
	if err := os.MkdirAll(filepath.Join(dir, "top", deep), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "top", deep, "f"), "deep")
	if err := os.Rename(filepath.Join(dir, "top"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	reads(t, filepath.Join(onNode, "moved", deep, "f"), "deep")
	reads(t, filepath.Join(dir, "moved", deep, "f"), "deep")
	if err := os.RemoveAll(filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(onNode); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func oddNames(t *testing.T, _ *mount, dir, onNode string) {
	names := []string{
		"new\nline", "\xff\xfe not UTF-8", strings.Repeat("n", 255), "-rf", " spaces ", "*?[a]", `back\slash`,
		"\x01\x7f", "...", "ünï", "'quoted' \"twice\"", "$HOME `id`",
	}
	for _, name := range names {
		write(t, filepath.Join(dir, name), name)
		reads(t, filepath.Join(onNode, name), name)
		reads(t, filepath.Join(dir, name), name)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(names) {
		t.Errorf("%d entries, %v, want %d", len(entries), err, len(names))
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "x")); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if err := os.Remove(filepath.Join(dir, "x")); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, strings.Repeat("n", 256)), nil, 0o644); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("256 bytes: %v, want ENAMETOOLONG", err)
	}
}

func TestReadOnly(t *testing.T) {
	n := testnode.Start(t)
	if err := os.Mkdir(filepath.Join(n.Home, "mounted"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(n.Home, "mounted", "f"), "content")
	m := newMountWith(t, n, mountSpec{Target: n.Target(), ReadOnly: true, Options: []string{"noexec", "noatime"}})
	reads(t, filepath.Join(m.Dir, "f"), "content")
	for name, err := range map[string]error{
		"write":  os.WriteFile(filepath.Join(m.Dir, "g"), nil, 0o644),
		"mkdir":  os.Mkdir(filepath.Join(m.Dir, "d"), 0o755),
		"remove": os.Remove(filepath.Join(m.Dir, "f")),
		"chmod":  os.Chmod(filepath.Join(m.Dir, "f"), 0o600),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Dir, &st); err != nil || st.Flags&unix.ST_NOEXEC == 0 || st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 {
		t.Errorf("flags %#x, %v", st.Flags, err)
	}
}

// The node's disk is full: a file system of its own, which only root can make.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	home := t.TempDir()
	if err := unix.Mount("tmpfs", home, "tmpfs", 0, "size=1m,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(home, 0); err != nil {
			t.Error(err)
		}
	})
	n := testnode.Start(t, testnode.WithHome(home))
	m := newMount(t, n, n.Target())
	path := filepath.Join(m.Dir, "f")
	if err := os.WriteFile(path, make([]byte, 3<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v, want ENOSPC", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has room: the kernel tells of a closed file when it likes to", func() bool {
		var st unix.Statfs_t
		return unix.Statfs(home, &st) == nil && st.Bavail > st.Blocks/2
	})
	write(t, path, "fits")
	reads(t, path, "fits")
}

func TestUnmountBusy(t *testing.T) {
	n := testnode.Start(t)
	for name, as := range map[string]*user{"Self": nil, "Nobody": nobody(t)} {
		t.Run(name, func(t *testing.T) {
			m := newMountWith(t, n, mountSpec{Target: n.Target(), as: as})
			if out, err := as.shell(m.Dir, "echo content > f; cat f; mkdir d; mv f d/g; cat d/g; ln -s d l; ls l; rm -r d"); err != nil || out != "content\ncontent\ng" {
				t.Fatalf("%q, %v", out, err)
			}
			// Somebody stays in it until its input ends.
			cmd := as.command(exec.Command("/bin/sh", "-ec", `cd "$1"; echo in; read line`, "sh", m.Dir))
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			said := make(chan struct{})
			cmd.Stdout = writerFunc(func(p []byte) (int, error) {
				defer close(said)
				return out.Write(p)
			})
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-said
			if errno := m.unmount(t); errno != syscall.EBUSY {
				t.Errorf("%v, want EBUSY", errno)
			}
			if out, err := as.shell(m.Dir, "echo still there > f; cat f; rm f l"); err != nil || out != "still there" {
				t.Errorf("%q, %v", out, err)
			}
			fmt.Fprintln(stdin, "go")
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if errno := m.unmount(t); errno != 0 {
				t.Errorf("when nobody is left: %v", errno)
			}
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Who else is let in. Only root can try as somebody else.
func TestWhoIsLetIn(t *testing.T) {
	other := nobody(t)
	if other == nil {
		return
	}
	n := testnode.Start(t)
	for name, c := range map[string]struct {
		spec mountSpec
		in   bool
	}{
		"Owner": {mountSpec{}, false},
		"Root":  {mountSpec{AllowRoot: true}, false},
		"Other": {mountSpec{AllowOther: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Target = n.Target()
			m := newMountWith(t, n, c.spec)
			write(t, filepath.Join(m.Dir, "f"), "content")
			// t.TempDir is closed to others: they come through a descriptor of ours.
			dir, err := os.Open(m.Dir)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			cmd := other.command(exec.Command("/bin/cat", "/proc/self/fd/3/f"))
			cmd.ExtraFiles = []*os.File{dir}
			out, err := cmd.CombinedOutput()
			if in := err == nil && string(out) == "content"; in != c.in {
				t.Errorf("cat as another user: %q, %v", out, err)
			}
			if !c.in && !strings.Contains(string(out), "Permission denied") {
				t.Errorf("cat said %q", out)
			}
		})
	}
}
