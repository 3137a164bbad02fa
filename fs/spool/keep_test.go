package spool

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAppendKeeping fills a small file system: there is room left for what it was set
// aside for, and for that alone.
func TestAppendKeeping(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can mount one
	}
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=512k,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	const keep, record = 100 << 10, 3000
	s := mustOpen(t, filepath.Join(mnt, "spool"))
	n := 0
	for ; ; n++ {
		if err := s.AppendKeeping(keep, make([]byte, record)); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Errorf("full after %d records", n)
	}
	for off := int64(0); ; off += 4096 {
		if err := s.WriteAt(1, make([]byte, 4096), off); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for range keep / (record + frameHeader + 8) {
		if err := s.Append(make([]byte, record)); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
		n++
	}
	s.Close()
	s = mustOpen(t, filepath.Join(mnt, "spool"))
	if got := replay(t, s); len(got) != n {
		t.Errorf("%d records, want %d", len(got), n)
	}
	if err := s.Destroy(); err != nil {
		t.Error(err)
	}
}
