package vfs_test

import (
	"errors"
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

// What a program waits for that writes a file anew: each row is done after the one before.
func TestRoundTripsOfWriting(t *testing.T) {
	s, home, trips := slowShared(t, vfs.SharedOptions{})
	ctx := t.Context()
	write(t, filepath.Join(home, "old"), "what was there")
	old := lookup(t, s, vfs.RootIno, "old")
	var made vfs.Entry
	var o vfs.Opened
	size := func(ino vfs.Ino, want uint64) func() error {
		return func() error {
			e, err := s.Getattr(ctx, ino, 0)
			if err == nil && e.Attr.Size != want {
				t.Errorf("size %d, want %d", e.Attr.Size, want)
			}
			if e, err := s.Lookup(ctx, vfs.RootIno, "old"); ino == old && (err != nil || e.Attr.Size != want) {
				t.Errorf("by its name: size %d, %v, want %d", e.Attr.Size, err, want)
			}
			return err
		}
	}
	for _, c := range []struct {
		name string
		want int64
		do   func() error
	}{
		{"create", 1, func() (err error) {
			made, o, err = s.Create(ctx, vfs.RootIno, "new", uint32(os.O_WRONLY), 0o644)
			return err
		}},
		{"stat of what was created", 0, func() error { return size(made.Attr.Ino, 0)() }},
		{"write", 0, func() error { return s.Write(ctx, o.Handle, []byte("text"), 0, false) }},
		{"stat of what was written", 2, func() error { return size(made.Attr.Ino, 4)() }},
		{"flush", 0, func() error { defer s.Release(o.Handle); return s.Flush(ctx, o.Handle) }},
		{"open and cut", 1, func() (err error) {
			o, err = s.Open(ctx, old, uint32(os.O_WRONLY|os.O_TRUNC))
			return err
		}},
		{"stat of what was cut", 0, size(old, 0)},
		{"write and flush", 1, func() error {
			return errors.Join(s.Write(ctx, o.Handle, []byte("other text"), 0, false), s.Flush(ctx, o.Handle))
		}},
		{"stat of what was flushed", 1, size(old, 10)},
		{"stat again", 0, size(old, 10)},
	} {
		if got := trips(func() {
			if err := c.do(); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}); got != c.want && !(c.name == "write" && got <= 1) { // what is sent behind may count already
			t.Errorf("%s takes %d round trips, want %d", c.name, got, c.want)
		}
	}
	s.Release(o.Handle)
}

// A file that is listed while the node lacks data of it has its size of then no longer when
// the node has it.
func TestListedWhileWritten(t *testing.T) {
	s, _, _ := slowShared(t, vfs.SharedOptions{})
	ctx := t.Context()
	e, o, err := s.Create(ctx, vfs.RootIno, "f", uint32(os.O_WRONLY), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(o.Handle)
	for i := range 4 {
		if err := s.Write(ctx, o.Handle, []byte("text"), int64(4*i), false); err != nil {
			t.Fatal(err)
		}
		list := make(chan error, 1)
		go func() {
			d, err := s.OpenDir(ctx, vfs.RootIno)
			if err == nil {
				_, err = s.ReadDir(ctx, d.Handle, true)
				s.ReleaseDir(d.Handle)
			}
			list <- err
		}()
		if got, err := s.Getattr(ctx, e.Attr.Ino, 0); err != nil || got.Attr.Size != uint64(4*i+4) {
			t.Errorf("while it is listed: size %d, %v, want %d", got.Attr.Size, err, 4*i+4)
		}
		if err := <-list; err != nil {
			t.Fatal(err)
		}
		if got, err := s.Getattr(ctx, e.Attr.Ino, 0); err != nil || got.Attr.Size != uint64(4*i+4) {
			t.Errorf("afterwards: size %d, %v, want %d", got.Attr.Size, err, 4*i+4)
		}
	}
}
