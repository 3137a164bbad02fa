package vfs_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// SFTP as a fake server speaks it: types of draft-ietf-secsh-filexfer-02, section 3.
const (
	wireVersion, wireStatus, wireHandle, wireData, wireName, wireAttrs = 2, 101, 102, 103, 104, 105
	wireOpen, wireClose, wireRead, wireLstat, wireFstat                = 3, 4, 5, 7, 8
	wireOpendir, wireReaddir, wireRealpath, wireStat                   = 11, 12, 16, 17
)

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func str(s string) []byte { return append(u32(uint32(len(s))), s...) }

// attrs are size, owner, permissions and times.
func attrs(size uint64, mode uint32) []byte {
	b := binary.BigEndian.AppendUint64(u32(1|2|4|8), size)
	for _, n := range []uint32{1, 1, mode, 1_000_000_000, 1_000_000_000} {
		b = append(b, u32(n)...)
	}
	return b
}

// packet is a packet with the number of a request.
func packet(typ byte, id uint32, fields ...[]byte) []byte {
	b := append([]byte{typ}, u32(id)...)
	for _, f := range fields {
		b = append(b, f...)
	}
	return append(u32(uint32(len(b))), b...)
}

func status(id, code uint32) []byte { return packet(wireStatus, id, u32(code), str(""), str("")) }

// fakeNode is a connection to a server whose answers are made up.
type fakeNode struct {
	answer func(id uint32, typ byte, body []byte) []byte // of each request, by several goroutines
	once   sync.Once
	done   chan struct{}
	tasks  sync.WaitGroup
}

func newFakeNode(answer func(id uint32, typ byte, body []byte) []byte) *fakeNode {
	return &fakeNode{answer: answer, done: make(chan struct{})}
}

func (f *fakeNode) Done() <-chan struct{} { return f.done }

func (f *fakeNode) Close() error { f.once.Do(func() { close(f.done) }); return nil }

// wait waits for the sessions, after Close.
func (f *fakeNode) wait() { f.tasks.Wait() }

func (f *fakeNode) OpenSubsystem(context.Context, string) (io.ReadWriteCloser, error) {
	ours, theirs := net.Pipe()
	f.tasks.Go(func() { <-f.done; ours.Close(); theirs.Close() })
	f.tasks.Go(func() {
		defer theirs.Close()
		for {
			var head [5]byte
			if _, err := io.ReadFull(theirs, head[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head[:4])-1)
			if _, err := io.ReadFull(theirs, body); err != nil {
				return
			}
			reply := append(u32(5), wireVersion, 0, 0, 0, 3)
			if head[4] != 1 {
				reply = f.answer(binary.BigEndian.Uint32(body), head[4], body[4:])
			}
			if _, err := theirs.Write(reply); err != nil {
				return
			}
		}
	})
	return ours, nil
}

// endless answers as a node of which the root has folders d0 to d7, of which d0 has a few
// files and the others have files without end. It counts the entries that it has sent, by folder.
type endless struct {
	mu     sync.Mutex
	listed map[string]int
	rooted map[string]bool // handles of which the end was told
}

func (e *endless) answer(id uint32, typ byte, body []byte) []byte {
	name := func() string { return string(body[4 : 4+binary.BigEndian.Uint32(body)]) }
	e.mu.Lock()
	defer e.mu.Unlock()
	switch typ {
	case wireRealpath:
		return packet(wireName, id, u32(1), str("/r"), str(""), u32(0))
	case wireStat, wireLstat:
		return packet(wireAttrs, id, attrs(0, 0o40755))
	case wireOpendir:
		e.rooted[name()] = false // which the handle is called
		return packet(wireHandle, id, str(name()))
	case wireReaddir:
		dir, count, entry := name(), 100, attrs(1, 0o100644)
		if dir == "/r" || dir == "/r/d0" {
			if e.rooted[dir] {
				return status(id, 1)
			}
			if e.rooted[dir], count = true, 8; dir == "/r" {
				entry = attrs(0, 0o40755)
			}
		}
		b := packet(wireName, id, u32(uint32(count)))
		for range count {
			b = append(append(append(b, str(fmt.Sprintf("d%d", e.listed[dir]))...), str("")...), entry...)
			e.listed[dir]++
		}
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		return b
	}
	return status(id, 0)
}

func (e *endless) most() (most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.listed {
		most = max(most, n)
	}
	return most
}

func (e *endless) folders() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.listed)
}

// What nobody has asked for is fetched within bounds, however much a node sends.
func TestListingAheadIsBounded(t *testing.T) {
	for mode, open := range map[string]func(f *fakeNode) (vfs.FileSystem, error){
		"shared": func(f *fakeNode) (vfs.FileSystem, error) {
			return vfs.NewShared(t.Context(), vfs.SharedOptions{NameTimeout: time.Hour, AttrTimeout: time.Hour,
				Dial: func(context.Context) (vfs.Conn, error) { return f, nil }, Root: "/r"})
		},
		"exclusive": func(f *fakeNode) (vfs.FileSystem, error) {
			return vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{Spool: filepath.Join(t.TempDir(), "spool"),
				Dial: func(context.Context) (vfs.Conn, error) { return f, nil }, Root: "/r"})
		},
	} {
		t.Run(mode, func(t *testing.T) {
			e := &endless{listed: map[string]int{}, rooted: map[string]bool{}}
			f := newFakeNode(e.answer)
			defer f.wait()
			defer f.Close()
			s, err := open(f)
			if err != nil {
				t.Fatal(err)
			}
			o, err := s.OpenDir(t.Context(), vfs.RootIno)
			if err != nil {
				t.Fatal(err)
			}
			defer s.ReleaseDir(o.Handle)
			entries, err := s.ReadDir(t.Context(), o.Handle, true)
			if err != nil || len(entries) != 8 {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			d, err := s.Lookup(t.Context(), vfs.RootIno, "d0")
			if err != nil {
				t.Fatal(err)
			}
			sub, err := s.OpenDir(t.Context(), d.Attr.Ino)
			if err != nil {
				t.Fatal(err)
			}
			defer s.ReleaseDir(sub.Handle)
			if files, err := s.ReadDir(t.Context(), sub.Handle, true); err != nil || len(files) != 8 {
				t.Errorf("%d files, %v", len(files), err)
			}
			eventually(t, "folders are listed ahead", func() bool { return e.folders() == 9 })
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if got := e.most(); got > vfs.AheadEntries+17*100 {
				t.Errorf("%d entries of a folder that nobody has listed", got)
			}
		})
	}
}
