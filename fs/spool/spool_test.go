package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	step("write", s.WriteAt(7, []byte("world"), 1<<20))
	step("write before", s.WriteAt(7, []byte("hello"), 0))
	step("sync", s.SyncData(7))
	step("sync of nothing", s.SyncData(8))
	buf := make([]byte, 10)
	step("read", s.ReadAt(7, buf, 0))
	if string(buf) != "hello\x00\x00\x00\x00\x00" {
		t.Fatalf("read %q", buf)
	}
	if err := s.ReadAt(7, buf, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("read beyond the end: %v", err)
	}
	if err := s.ReadAt(9, buf, 0); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read of a missing file: %v", err)
	}
	step("truncate", s.TruncateData(7, 3))
	step("grow", s.TruncateData(7, 10))
	step("read", s.ReadAt(7, buf, 0))
	if string(buf) != "hel\x00\x00\x00\x00\x00\x00\x00" {
		t.Fatalf("read %q", buf)
	}
	step("truncate of a new one", s.TruncateData(1<<63, 1<<40))
	info, err := os.Stat(s.data.name(1 << 63))
	step("stat", err)
	if info.Mode().Perm() != 0o600 || info.Sys().(*syscall.Stat_t).Blocks > 8 {
		t.Fatalf("mode %v, %d blocks", info.Mode(), info.Sys().(*syscall.Stat_t).Blocks)
	}
	step("foreign file", os.WriteFile(filepath.Join(dir, "data", "README"), nil, 0o600))
	ids, err := s.DataIDs()
	step("ids", err)
	slices.Sort(ids)
	if !slices.Equal(ids, []uint64{7, 1 << 63}) {
		t.Fatalf("ids %v", ids)
	}
	step("remove", s.Remove(7))
	step("remove again", s.Remove(7))
	if err := s.ReadAt(7, buf, 0); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read of a removed file: %v", err)
	}
	step("write anew", s.WriteAt(7, []byte("x"), 0))
	step("read anew", s.ReadAt(7, buf[:1], 0))
	step("close", s.Close())
	for what, err := range map[string]error{
		"write": s.WriteAt(7, nil, 0), "read": s.ReadAt(7, nil, 0), "remove": s.Remove(7), "append": s.Append(nil),
		"sync": s.Sync(), "destroy": s.Destroy(), "replay": s.Replay(nil), "rewrite": s.Rewrite(nil),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
	step("close again", s.Close())
}

// openData counts the descriptors of this process that are data files of dir.
func openData(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir+"/data/") {
			n++
		}
	}
	return n
}

func TestDescriptorsAreBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	const files = 3 * maxOpen
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range files {
				id := uint64((i*7 + w*31) % files)
				p := []byte(fmt.Sprintf("%016x", id))
				if err := s.WriteAt(id, p, 16*int64(w)); err != nil {
					t.Error(err)
				}
				got := make([]byte, 16)
				if err := s.ReadAt(id, got, 16*int64(w)); err != nil || !bytes.Equal(got, p) {
					t.Errorf("id %d: %q, %v", id, got, err)
				}
				if i%100 == 0 {
					s.data.mu.Lock() // nothing is closed meanwhile: the count is not blurred
					n := openData(t, dir)
					s.data.mu.Unlock()
					if n > maxOpen {
						t.Errorf("%d descriptors", n)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := openData(t, dir); n != maxOpen {
		t.Errorf("%d descriptors when idle, want %d", n, maxOpen)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := openData(t, dir); n != 0 {
		t.Errorf("%d descriptors after close", n)
	}
}

// TestAllInUse: when all descriptors are in use the next call waits for one,
// and Close waits for those in use.
func TestAllInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	begin, end := make(chan struct{}, maxOpen), make(chan struct{})
	var wg sync.WaitGroup
	for id := range uint64(maxOpen) {
		wg.Go(func() {
			err := s.data.with(id, true, func(f *os.File) error {
				begin <- struct{}{}
				<-end
				_, err := f.WriteString("x")
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range maxOpen {
		<-begin
	}
	// One of them is removed: it stays open, and counted, until it is released.
	if err := s.Remove(5); err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	wg.Go(func() {
		if err := s.WriteAt(1000, []byte("y"), 0); err != nil {
			t.Error(err)
		}
		done.Store(true)
	})
	if n := openData(t, dir); n != maxOpen || done.Load() {
		t.Errorf("%d descriptors, done %v", n, done.Load())
	}
	close(end)
	wg.Wait()
	ids, err := s.DataIDs()
	if err != nil || len(ids) != maxOpen || slices.Contains(ids, 5) {
		t.Errorf("%d files, %v", len(ids), err)
	}

	in, out, closed := make(chan struct{}), make(chan struct{}), make(chan error)
	wg.Go(func() {
		s.data.with(1, false, func(f *os.File) error {
			close(in)
			<-out
			_, err := f.WriteAt([]byte("z"), 0)
			if err != nil {
				t.Error("closed while in use:", err)
			}
			return err
		})
	})
	<-in
	go func() { closed <- s.Close() }()
	close(out)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestRecycledFiles: a file that had other data before is empty when it gets a
// new id, whatever is written and removed at the same time.
func TestRecycledFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			old, buf := bytes.Repeat([]byte{'A' + byte(w)}, 5000), make([]byte, 6001)
			for i := range uint64(300) {
				id := i<<8 | w
				err := errors.Join(s.WriteAt(id, old, 0), s.TruncateData(id, 100), s.WriteAt(id, []byte("z"), 6000), s.ReadAt(id, buf, 0))
				if err != nil {
					t.Error(err)
				}
				if !bytes.Equal(buf[:100], old[:100]) || !bytes.Equal(buf[100:6000], make([]byte, 5900)) || buf[6000] != 'z' {
					t.Errorf("id %x holds data of another one", id)
				}
				if i%5 != 0 {
					if err := s.Remove(id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Go(func() { // the same id from several sides
		for range 300 {
			var race sync.WaitGroup
			race.Go(func() {
				if err := s.WriteAt(1<<40, []byte("mine"), 0); err != nil {
					t.Error(err)
				}
			})
			race.Go(func() {
				if err := s.Remove(1 << 40); err != nil {
					t.Error(err)
				}
			})
			race.Wait()
		}
	})
	wg.Wait()
	if err := errors.Join(s.WriteAt(5, make([]byte, maxRecycled+1), 0), s.Remove(5), s.Remove(1<<40)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "data"))
	if err != nil || len(left) != 4*60 {
		t.Fatalf("%d files left, %v", len(left), err)
	}
	// What a crash leaves is deleted at the next start.
	if err := os.WriteFile(filepath.Join(dir, "data", freePrefix+"00000001"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer s.Close()
	if left, err = os.ReadDir(filepath.Join(dir, "data")); err != nil || len(left) != 4*60 {
		t.Fatalf("%d files left, %v", len(left), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	base := t.TempDir()
	mk := func(name string, mode os.FileMode) string {
		path := filepath.Join(base, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := mk("good", 0o700)
	link := filepath.Join(base, "link")
	file := filepath.Join(base, "file")
	if err := errors.Join(os.Symlink(good, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	foreign := "/usr"
	if os.Geteuid() == 0 {
		foreign = mk("foreign", 0o700)
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	inner := mk("inner", 0o700)
	if err := os.Symlink(file, filepath.Join(inner, "journal")); err != nil {
		t.Fatal(err)
	}
	data := mk("data", 0o700)
	if err := os.Symlink(good, filepath.Join(data, "data")); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		mk("open", 0o750):   "others have access",
		mk("public", 0o701): "others have access",
		link:                "not a folder",
		file:                "not a directory",
		foreign:             "another user",
		inner:               "journal",
		data:                "not a folder",
	} {
		s, err := Open(dir)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
	s, err := Open(good) // nothing that was refused holds a lock here
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestDestroy(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b")
	fill := func() *Spool {
		s := mustOpen(t, dir)
		if err := errors.Join(s.Append([]byte("x")), s.WriteAt(1, []byte("y"), 0), s.WriteAt(2, []byte("y"), 0)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := fill().Destroy(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(base, "a")); err != nil || len(left) != 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
	s := fill()
	strange := filepath.Join(dir, "data", "mine.txt")
	if err := os.WriteFile(strange, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(); !errors.Is(err, unix.ENOTEMPTY) {
		t.Fatalf("destroy with a strange file: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "data")); err != nil || len(left) != 1 {
		t.Fatalf("left: %v, %v", left, err)
	}
	s = mustOpen(t, dir) // it can be opened again, and is empty
	if got := replay(t, s); len(got) != 0 {
		t.Fatalf("%d records", len(got))
	}
	if err := errors.Join(os.Remove(strange), s.Destroy()); err != nil {
		t.Fatal(err)
	}
}

// TestOpenAgainstDestroy: whoever opens while others destroy never shares a
// spool, and never has one that is not at its path.
func TestOpenAgainstDestroy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var holders, opened atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 60 {
				s, err := Open(dir)
				var locked *LockedError
				if errors.As(err, &locked) || errors.Is(err, os.ErrNotExist) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				opened.Add(1)
				if holders.Add(1) != 1 {
					t.Error("two have the spool")
				}
				if err := s.Append([]byte("x")); err != nil {
					t.Error(err)
				}
				if n := len(replay(t, s)); n != 1 {
					t.Errorf("%d records in a new spool", n)
				}
				holders.Add(-1)
				if err := s.Destroy(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if opened.Load() == 0 {
		t.Error("nobody could open it")
	}
}

// TestFullDisk fills a small file system. Who may not mount one has the limit
// of TestFileSizeLimit, which cuts writes short in the same way.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=256k,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	s := mustOpen(t, filepath.Join(mnt, "spool"))
	if err := s.WriteAt(1, make([]byte, 100<<10), 0); err != nil {
		t.Fatal(err)
	}
	n, err := appendUntilFull(s)
	if err != nil {
		t.Fatal(err)
	}
	err = s.WriteAt(1, make([]byte, 100<<10), 100<<10)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), s.data.name(1)) {
		t.Fatalf("data: %v", err)
	}
	err = s.Rewrite(func(yield func([]byte) bool) {
		for range 50 {
			if !yield(make([]byte, 3000)) {
				return
			}
		}
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("rewrite: %v", err)
	}
	// A full disk does not keep the spool from being opened and emptied.
	s.Close()
	s = mustOpen(t, filepath.Join(mnt, "spool"))
	if got := replay(t, s); len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	if err := s.Remove(1); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(make([]byte, 3000)); err != nil {
		t.Fatalf("append after room was made: %v", err)
	}
	if got := replay(t, s); len(got) != n+1 {
		t.Fatalf("%d records, want %d", len(got), n+1)
	}
	if err := s.Destroy(); err != nil {
		t.Fatal(err)
	}
}
