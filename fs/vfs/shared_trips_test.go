package vfs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// slowShared is a file system over a slow link; trips counts the round trips of an action.
func slowShared(t *testing.T, o vfs.SharedOptions) (s *vfs.Shared, home string, trips func(func()) int64) {
	t.Helper()
	n := testnode.Start(t)
	l := testnode.NewLink(t, n.Addr)
	s = newShared(t, n.TargetVia(l), o)
	l.SetRTT(200 * time.Millisecond)
	s.Ping(t.Context()) // what went before has arrived
	return s, n.Home, func(action func()) int64 {
		t.Helper()
		before := l.Counters().RoundTrips[0] // of the only connection
		action()
		return l.Counters().RoundTrips[0] - before
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func lookup(t *testing.T, s *vfs.Shared, dir vfs.Ino, name string) vfs.Ino {
	t.Helper()
	e, err := s.Lookup(t.Context(), dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return e.Attr.Ino
}

// What a program waits for at each call over a slow link.
func TestRoundTrips(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	ctx := t.Context()
	write(t, filepath.Join(home, "f"), "small")
	f := lookup(t, s, vfs.RootIno, "f")
	var o vfs.Opened
	mode, when, size := uint32(0o600), int64(1_000_000_000e9), uint64(3)
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"open", func() (err error) { o, err = s.Open(ctx, f, uint32(os.O_RDONLY)); return err }},
		{"read", func() error {
			got := make([]byte, 4096)
			n, err := s.Read(ctx, o.Handle, got, 0)
			if err == nil && string(got[:n]) != "small" {
				t.Errorf("read %q", got[:n])
			}
			return err
		}},
		{"chmod", func() error {
			e, err := s.Setattr(ctx, f, 0, vfs.SetAttr{Mode: &mode})
			if err == nil && e.Attr.Mode&0o7777 != mode {
				t.Errorf("mode %o", e.Attr.Mode)
			}
			return err
		}},
		{"utimes", func() error {
			e, err := s.Setattr(ctx, f, 0, vfs.SetAttr{Atime: &when, Mtime: &when})
			if err == nil && e.Attr.Mtime != when {
				t.Errorf("time %d", e.Attr.Mtime)
			}
			return err
		}},
		{"truncate", func() error {
			e, err := s.Setattr(ctx, f, 0, vfs.SetAttr{Size: &size})
			if err == nil && e.Attr.Size != size {
				t.Errorf("size %d", e.Attr.Size)
			}
			return err
		}},
	} {
		if got := trips(func() {
			if err := c.do(); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}); got != 1 {
			t.Errorf("%s takes %d round trips", c.name, got)
		}
	}
	if got := trips(func() {
		if e, err := s.Getattr(ctx, f, 0); err != nil || e.Attr.Size != size || e.Attr.Mtime == when || e.Attr.Mode&0o7777 != mode {
			t.Errorf("%+v, %v", e.Attr, err)
		}
	}); got != 0 {
		t.Errorf("what was set is asked for: %d round trips", got)
	}
	s.Release(o.Handle)
}

// A file that has grown since it was opened is read on by who reads on.
func TestReadOnBehindTheOldEnd(t *testing.T) {
	s, n, a := counted(t, vfs.SharedOptions{})
	path := filepath.Join(n.Home, "f")
	write(t, path, "first")
	ino := lookup(t, s, vfs.RootIno, "f")
	o, err := s.Open(t.Context(), ino, uint32(os.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(o.Handle)
	a.since()
	read := func(off int64, want string) {
		t.Helper()
		got := make([]byte, 4096)
		if n, err := s.Read(t.Context(), o.Handle, got, off); err != nil || string(got[:n]) != want {
			t.Errorf("at %d: %q, %v, want %q", off, got[:n], err, want)
		}
	}
	read(0, "first")
	if got := a.count("READ"); got != 1 {
		t.Errorf("%d reads for a small file", got)
	}
	read(5, "")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(" second"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	read(5, " second")
	read(0, "first second")
}
