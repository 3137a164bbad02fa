package node

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestSFTPFromHome(t *testing.T) {
	n := start(t)
	s := sftpClient(t, connect(t, n))
	if wd, err := s.Getwd(); err != nil || wd != n.Home {
		t.Errorf("starts in %q, %v, want %q", wd, err, n.Home)
	}
	if err := s.MkdirAll("a/b"); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("a/b/file")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	if _, err := f.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(n.Home, "a/b/file")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(data), err)
	}
	if err := s.PosixRename("a/b/file", n.Home+"/a/renamed"); err != nil {
		t.Error(err)
	}
	if err := s.Link("a/renamed", "a/linked"); err != nil {
		t.Error(err)
	}
	if _, err := s.StatVFS("a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat("absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	names, err := s.ReadDir("a")
	if err != nil || len(names) != 3 {
		t.Errorf("listed %v, %v", names, err)
	}
}

func TestSymlinkTargetIsKept(t *testing.T) {
	n := start(t)
	s := sftpClient(t, connect(t, n))
	if err := s.Symlink("venvs/hello-1", "current"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(filepath.Join(n.Home, "current")); err != nil || got != "venvs/hello-1" {
		t.Errorf("points to %q, %v", got, err)
	}
	if got, err := s.ReadLink("current"); err != nil || got != "venvs/hello-1" {
		t.Errorf("read as %q, %v", got, err)
	}
}

func TestObserve(t *testing.T) {
	var mu sync.Mutex
	var seen []Request
	n := start(t, Observe(func(r Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r)
	}))
	s := sftpClient(t, connect(t, n))
	if err := s.Mkdir("dir"); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("dir/part")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello"), 7); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.PosixRename("dir/part", "dir/whole"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	var names []string
	for _, r := range seen {
		names = append(names, r.Name)
	}
	if want := []string{"MKDIR", "OPEN", "WRITE", "CLOSE", "posix-rename@openssh.com"}; !slices.Equal(names, want) {
		t.Fatalf("saw %q, want %q", names, want)
	}
	if r := seen[1]; r.Path != n.Home+"/dir/part" || r.Session != 1 {
		t.Errorf("open is %+v", r)
	}
	if r := seen[2]; r.Offset != 7 || r.Len != 5 || r.Handle == "" || r.Handle != seen[3].Handle {
		t.Errorf("write is %+v, close %+v", r, seen[3])
	}
	if r := seen[4]; r.Path != n.Home+"/dir/part" || r.Path2 != n.Home+"/dir/whole" {
		t.Errorf("rename is %+v", r)
	}
}

func TestBrokenPacketEndsTheSessionOnly(t *testing.T) {
	c := connect(t, start(t))
	s := session(t, c)
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte{0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(out); err != nil || len(got) > 0 {
		t.Errorf("answered %q, %v", got, err)
	}
	if _, err := sftpClient(t, c).Getwd(); err != nil {
		t.Error(err)
	}
}

// FuzzRequests checks that no input makes the rewriting panic or stall, and that what comes out is
// whole packets whose paths are absolute.
func FuzzRequests(f *testing.F) {
	packet := func(kind byte, texts ...string) []byte {
		b := []byte{0, 0, 0, 0, kind, 0, 0, 0, 1}
		for _, s := range texts {
			b = appendText(b, s)
		}
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		return b
	}
	f.Add(packet(3, "file"))
	f.Add(packet(18, "a", "/b"))
	f.Add(packet(20, "target", "link"))
	f.Add(packet(200, "posix-rename@openssh.com", "a", "b"))
	f.Add(append(packet(6, "1", "12345678"), packet(13, strings.Repeat("x", 70000))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &requests{in: bufio.NewReaderSize(bytes.NewReader(data), maxHeader), home: "/home", observe: func(q Request) {
			if q.Name == "OPEN" && !strings.HasPrefix(q.Path, "/") {
				t.Errorf("path %q", q.Path)
			}
		}}
		out, err := io.ReadAll(r)
		for err == nil && len(out) >= 4 {
			n := 4 + int(binary.BigEndian.Uint32(out))
			if n > len(out) {
				break // the input ended within a packet that is passed on as it is
			}
			out = out[n:]
		}
	})
}
