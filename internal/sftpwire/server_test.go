package sftpwire_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/internal/node"
	"bundlefs/internal/remote"
	"bundlefs/internal/sftpwire"
	"bundlefs/internal/testnode"
)

// open starts a session on a node.
func open(t *testing.T, target remote.Target) *sftpwire.Session {
	t.Helper()
	client, err := remote.Dial(t.Context(), target, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	ch, err := client.OpenSubsystem(t.Context(), "sftp")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sftpwire.New(t.Context(), ch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ptr[T any](v T) *T { return &v }

func TestOpenSSH(t *testing.T) {
	n := testnode.Start(t)
	s := open(t, n.Target())
	l, err := s.Limits(t.Context())
	if err != nil || l.Read < 32<<10 || l.Write < 32<<10 {
		t.Errorf("limits %+v, %v", l, err)
	}
	common(t, s, n.Home)

	link := filepath.Join(n.Home, "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1234567890, 0)
	sec := ptr(uint32(when.Unix()))
	if err := s.Setstat(t.Context(), link, sftpwire.Attrs{Atime: sec, Mtime: sec}, true); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || !info.ModTime().Equal(when) {
		t.Errorf("the link itself: %v, %v", info, err)
	}
	if err := s.Setstat(t.Context(), link, sftpwire.Attrs{Atime: sec, Mtime: sec}, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the link points to: %v", err)
	}
}

func TestServerWithoutExtensions(t *testing.T) {
	n, err := node.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	s := open(t, n.Target())
	if l, err := s.Limits(t.Context()); err != nil || l != (sftpwire.Limits{}) {
		t.Errorf("limits %+v, %v of a server that has none", l, err)
	}
	common(t, s, n.Home)
}

// common is what every server does.
func common(t *testing.T, s *sftpwire.Session, home string) {
	t.Helper()
	file, dir := filepath.Join(home, "file"), filepath.Join(home, "dir")
	if err := os.WriteFile(file, []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1000000000, 0)
	sec := ptr(uint32(when.Unix()))
	all := sftpwire.Attrs{
		Size: ptr(uint64(4)), Permissions: ptr(uint32(0o600)), Atime: sec, Mtime: sec,
		UID: ptr(uint32(os.Getuid())), GID: ptr(uint32(os.Getgid())),
	}
	if err := s.Setstat(t.Context(), file, all, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); info.Size() != 4 || info.Mode() != 0o600 || !info.ModTime().Equal(when) || st.Atim.Sec != when.Unix() {
		t.Errorf("after setstat: %d bytes, %v, %v", info.Size(), info.Mode(), info.ModTime())
	}
	var want []string
	for i := range 700 { // several replies of any server
		want = append(want, fmt.Sprintf("name %03d", i))
		if err := os.WriteFile(filepath.Join(dir, want[i]), []byte("x"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	names, err := s.ReadDir(t.Context(), dir, len(want))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range names {
		got = append(got, n.Name)
		if n.Stat.Size != 1 || n.Stat.Permissions != 0o100640 {
			t.Errorf("%+v", n)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
	if _, err := s.ReadDir(t.Context(), dir, len(want)-1); !errors.Is(err, sftpwire.ErrTooLarge) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := s.ReadDir(t.Context(), filepath.Join(home, "none"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("list of nothing: %v", err)
	}
	if err := s.Remove(t.Context(), file); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	var status *sftpwire.StatusError
	if err := s.Setstat(t.Context(), file, all, false); !errors.As(err, &status) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("setstat of nothing: %v", err)
	}
}

// Reads that were sent one behind the other, on a real server.
func TestReadServer(t *testing.T) {
	n := testnode.Start(t)
	s := open(t, n.Target())
	ctx := t.Context()
	content := strings.Repeat("0123456789", 20_000)
	h, err := s.Open(ctx, filepath.Join(n.Home, "file"), sftpwire.FlagRead|sftpwire.FlagWrite|sftpwire.FlagCreate, sftpwire.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(h, 0, []byte(content)).Wait(ctx); err != nil {
		t.Fatal(err)
	}
	var requests []sftpwire.ReadRequest
	const part = 30_000
	for off := 0; off < len(content); off += part {
		requests = append(requests, s.SendRead(h, uint64(off), part))
	}
	var got strings.Builder
	for _, r := range requests {
		b, err := r.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(b)
	}
	if got.String() != content {
		t.Errorf("read %d bytes, not what was written", got.Len())
	}
	if _, err := s.SendRead(h, uint64(len(content)), 1).Wait(ctx); err != io.EOF {
		t.Errorf("behind the end: %v, want EOF", err)
	}
	if err := s.CloseHandle(h).Wait(ctx); err != nil {
		t.Fatal(err)
	}
}
