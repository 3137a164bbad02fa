package vfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// patientConn is a connection on which a server may be silent for so long.
type patientConn struct {
	*remote.Client
	limit time.Duration
}

func (c patientConn) AliveLimit() time.Duration { return c.limit }

// newHanging makes a file system of either mode in which a server counts as hanging after
// limit; there are no keepalives.
func newHanging(t *testing.T, n *testnode.Node, exclusive bool, limit, timeout time.Duration) vfs.FileSystem {
	t.Helper()
	target := n.Target()
	target.Options["ServerAliveInterval"] = "0"
	dial := func(ctx context.Context) (vfs.Conn, error) {
		c, err := remote.Dial(ctx, target, remote.Options{})
		if err != nil {
			return nil, err
		}
		return patientConn{c, limit}, nil
	}
	return newTimed(t, exclusive, timeout, dial)
}

var bothModes = map[string]bool{"shared": false, "exclusive": true}

// TestServerHangs: what is written while the server does not answer is on the node when it
// was taken for lost, and a question is answered; both without any help.
func TestServerHangs(t *testing.T) {
	for mode, exclusive := range bothModes {
		for name, hang := range map[string]func(*testnode.Node){
			"all":        func(n *testnode.Node) { n.HangServers(0) },
			"one":        func(n *testnode.Node) { n.HangServers(1) },
			"connection": func(n *testnode.Node) { n.HangConnections() },
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel() // they mostly wait
				n := testnode.Start(t)
				files := newHanging(t, n, exclusive, time.Second, -1)
				open := create(t, files, "open")
				hang(n)
				if err := files.Write(t.Context(), open, []byte("written"), 0, false); err != nil {
					t.Fatal(err)
				}
				for i := range 8 { // on all sessions, the silent one too
					h := create(t, files, fmt.Sprint("f", i))
					if err := files.Write(t.Context(), h, []byte(fmt.Sprint(i)), 0, false); err != nil {
						t.Fatal(err)
					}
					if err := errors.Join(files.Flush(t.Context(), h), files.Fsync(t.Context(), h)); err != nil {
						t.Fatal(err)
					}
					files.Release(h)
				}
				if err := errors.Join(files.Flush(t.Context(), open), files.Fsync(t.Context(), open)); err != nil {
					t.Fatal(err)
				}
				hasNow(t, filepath.Join(n.Home, "open"), "written")
				for i := range 8 {
					hasNow(t, filepath.Join(n.Home, fmt.Sprint("f", i)), fmt.Sprint(i))
				}
				files.Release(open)
				if st := files.Status(); name != "one" && st.Traffic.Connections < 2 {
					t.Errorf("there was no other connection: %+v", st)
				}
			})
		}
	}
}

// hasNow proves the content of a file of the node.
func hasNow(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("the node has %q in %s, %v, want %q", b, path, err, want)
	}
}

// create makes a file in the root.
func create(t *testing.T, files vfs.FileSystem, name string) vfs.Handle {
	t.Helper()
	_, o, err := files.Create(t.Context(), vfs.RootIno, name, uint32(os.O_RDWR), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return o.Handle
}

// TestServerGoesOn: a server that hangs for less than the limit is waited for.
func TestServerGoesOn(t *testing.T) {
	for mode, exclusive := range bothModes {
		t.Run(mode, func(t *testing.T) {
			n := testnode.Start(t)
			files := newHanging(t, n, exclusive, time.Hour, -1)
			goOn := n.HangServers(0)
			done := make(chan error, 1)
			go func() {
				_, o, err := files.Create(context.Background(), vfs.RootIno, "f", uint32(os.O_RDWR), 0o644)
				if err == nil {
					err = errors.Join(files.Write(context.Background(), o.Handle, []byte("written"), 0, false), files.Fsync(context.Background(), o.Handle))
					files.Release(o.Handle)
				}
				done <- err
			}()
			select {
			case err := <-done:
				t.Errorf("fsync without the node: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			goOn()
			if err := <-done; err != nil {
				t.Error(err)
			}
			hasNow(t, filepath.Join(n.Home, "f"), "written")
			if st := files.Status(); st.Traffic.Connections != 1 {
				t.Errorf("it was connected again: %+v", st)
			}
		})
	}
}

// TestHungSessionAndTimeout: a session that hangs is not taken for alive because others
// are. What is asked on it fails after the timeout, and the others work.
func TestHungSessionAndTimeout(t *testing.T) {
	n := testnode.Start(t)
	s := newHanging(t, n, false, time.Hour, time.Second).(*vfs.Shared)
	for i := range 16 {
		h := create(t, s, fmt.Sprint("f", i))
		if err := s.Flush(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.Release(h)
	}
	n.HangServers(1)
	var timedOut, worked atomic.Int64
	var enough atomic.Bool
	var workers sync.WaitGroup
	count := func(err error) {
		switch {
		case err == nil:
			worked.Add(1)
		case vfs.Errno(err) == syscall.ETIMEDOUT:
			timedOut.Add(1)
		default:
			t.Error(err)
		}
	}
	for i := range 16 {
		workers.Go(func() {
			for !enough.Load() {
				s.Ping(context.Background())
				e, err := s.Lookup(context.Background(), vfs.RootIno, fmt.Sprint("f", i))
				if count(err); err != nil {
					continue
				}
				o, err := s.Open(context.Background(), e.Attr.Ino, uint32(os.O_WRONLY))
				if count(err); err != nil {
					continue
				}
				if err = s.Write(context.Background(), o.Handle, []byte("written"), 0, false); err == nil {
					err = s.Flush(context.Background(), o.Handle)
				}
				count(err)
				s.Release(o.Handle)
			}
		})
	}
	eventually(t, "something times out", func() bool { return timedOut.Load() > 0 })
	before := worked.Load()
	eventually(t, "the others work", func() bool { return worked.Load() > before+100 })
	enough.Store(true)
	workers.Wait()
	if st := s.Status(); st.Traffic.Connections != 1 {
		t.Errorf("it was connected again: %+v", st)
	}
}
