package vfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bundlefs/fs/vfs"
)

// TestSpoolDiskFull fills the disk of the spool while the link is cut: writers are told,
// what was acknowledged before is kept, and when it is on the node it goes on.
func TestSpoolDiskFull(t *testing.T) {
	for name, length := range map[string]int{"small files, in the journal": 6000, "big files, beside it": 200_000} {
		t.Run(name, func(t *testing.T) {
			home, disk := t.TempDir(), t.TempDir()
			node := filepath.Join(home, "bundle")
			if err := os.Mkdir(node, 0o755); err != nil {
				t.Fatal(err)
			}
			spec := crashSpec{Home: home, Root: "bundle", Spool: filepath.Join(disk, "spool"), Disk: 900 << 10}
			l := newLife(t, 1, spec, node)
			k := startKilled(t, spec)
			if _, ok := k.answer(t); !ok {
				l.fail(k, "not mounted")
			}
			for round := range 3 {
				l.do(k, op{Kind: opCut})
				files := 0
				for ; l.full(k, round, files, length); files++ {
				}
				if files == 0 {
					l.fail(k, "round %d: full from the beginning", round)
				}
				l.synced(k)
			}
			k.must(t, op{Kind: opEnd})
			k.wait()
		})
	}
}

// full makes a file; false if the disk is full.
func (l *life) full(k *killed, round, n, length int) bool {
	l.Helper()
	p := fmt.Sprintf("f%d-%d", round, n)
	for _, o := range []op{
		{Kind: opCreate, Path: p, Mode: 0o644, Handle: 1000*round + n + 1},
		{Kind: opWrite, Handle: 1000*round + n + 1, Data: l.c.bytes(length)},
		{Kind: opClose, Handle: 1000*round + n + 1},
	} {
		if err := k.in.Encode(o); err != nil {
			l.fail(k, "%v: %v", o, err)
		}
		a, ok := k.answer(l)
		if !ok || a.Errno != 0 && (a.Errno != syscall.ENOSPC || n > 999) {
			l.fail(k, "%v: %v %s", o, a.Errno, a.Text)
		}
		if a.Errno != 0 {
			l.note("%v: %v", o, a.Errno)
			if o.Kind == opWrite { // times of a write that failed are not those of the model
				l.c.m.open[o.Handle].mtime = unsure
			}
			return false
		}
		l.took(o, a)
	}
	return true
}

// TestJournalBounded changes a file time and again while another is refused: the
// journal does not grow with what has been, and the refused file is still in it.
func TestJournalBounded(t *testing.T) {
	defer vfs.SetJournal(vfs.SetJournal(16<<10, 64<<10))
	home, spool := t.TempDir(), filepath.Join(t.TempDir(), "spool")
	node := filepath.Join(home, "bundle")
	if err := os.Mkdir(node, 0o755); err != nil {
		t.Fatal(err)
	}
	_, do := openLocal(t, home, spool)
	// A folder that appears on the node behind our back is in the way.
	stray := filepath.Join(node, "refused")
	if err := os.Mkdir(stray, 0o755); err != nil {
		t.Fatal(err)
	}
	do.must(t, op{Kind: opCreate, Path: "refused", Mode: 0o644, Handle: 1})
	do.must(t, op{Kind: opWrite, Handle: 1, Data: []byte("kept")})
	do.must(t, op{Kind: opClose, Handle: 1})
	do.must(t, op{Kind: opCreate, Path: "busy", Mode: 0o644, Handle: 2})
	do.must(t, op{Kind: opClose, Handle: 2})
	var refused *vfs.RefusedError
	if err := do.x.Sync(t.Context(), nil); !errors.As(err, &refused) || len(refused.Changes) != 1 {
		t.Fatalf("not refused: %v", err)
	}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(spool, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for begun, changes := 0, 0; begun < 3; changes++ {
		before := size()
		do.must(t, op{Kind: opChmod, Path: "busy", Mode: []uint32{0o600, 0o640}[changes%2]})
		if size() < before {
			begun++
		}
		if changes > 1_000_000 {
			t.Fatalf("the journal has %d bytes", size())
		}
	}
	do.must(t, op{Kind: opEnd})
	if err := os.Remove(stray); err != nil {
		t.Fatal(err)
	}
	_, do = openLocal(t, home, spool)
	do.must(t, op{Kind: opSync})
	if got, err := os.ReadFile(stray); string(got) != "kept" || err != nil {
		t.Errorf("on the node: %q %v", got, err)
	}
	do.must(t, op{Kind: opEnd})
}
