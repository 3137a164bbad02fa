package vfs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// TestSpoolDataLost mounts with a spool whose data is not what the journal says, as after
// a power loss: that file is refused and kept, the link is left alone, reading it is an
// error, and all else is sent.
func TestSpoolDataLost(t *testing.T) {
	for name, lose := range map[string]func(file string) error{
		"short":   func(file string) error { return os.Truncate(file, 4096) },
		"missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			home, spool := t.TempDir(), filepath.Join(t.TempDir(), "spool")
			if err := os.Mkdir(filepath.Join(home, "bundle"), 0o755); err != nil {
				t.Fatal(err)
			}
			_, do := openLocal(t, home, spool)
			do.must(t, op{Kind: opCut})
			put(t, do.v, "f", bytes.Repeat([]byte("x"), 300_000))
			put(t, do.v, "other", []byte("hello"))
			do.must(t, op{Kind: opEnd})
			data, err := filepath.Glob(filepath.Join(spool, "data", "*"))
			if err != nil || len(data) == 0 {
				t.Fatal(data, err)
			}
			for _, file := range data {
				if err := lose(file); err != nil {
					t.Fatal(err)
				}
			}
			x, do := openLocal(t, home, spool)
			if got := refusals(t, x, syscall.EIO); len(got) != 1 || got[0] != "f" {
				t.Errorf("refused %q", got)
			}
			if refused := x.Status().Refused; len(refused) == 1 && !strings.Contains(refused[0].Error, "read the spool") {
				t.Errorf("refused %+v", refused)
			}
			if st := x.Status(); st.Traffic.Connections != 1 || st.LinkError != "" {
				t.Errorf("%d connections, %q", st.Traffic.Connections, st.LinkError)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			e, err := x.Lookup(ctx, vfs.RootIno, "f")
			if err != nil {
				t.Fatal(err)
			}
			o, err := x.Open(ctx, e.Attr.Ino, syscall.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.Read(ctx, o.Handle, make([]byte, 4096), 200_000); vfs.Errno(err) != syscall.EIO || ctx.Err() != nil {
				t.Errorf("read: %v", err)
			}
			x.Release(o.Handle)
			if b, err := os.ReadFile(filepath.Join(home, "bundle", "other")); string(b) != "hello" {
				t.Errorf("other: %q, %v", b, err)
			}
			if count, err := x.Discard("f"); count != 1 || err != nil {
				t.Errorf("discarded %d, %v", count, err)
			}
			synced(t, x)
			do.must(t, op{Kind: opEnd})
			if _, err := os.Stat(spool); !os.IsNotExist(err) {
				t.Errorf("the spool is left: %v", err)
			}
		})
	}
}
