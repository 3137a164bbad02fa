package vfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// Whatever is asked one after the other while the node is away waits for the timeout once, and not
// each time anew; and all of it works again when the node is back.
func TestTimeoutCountsOnce(t *testing.T) {
	const timeout, questions = 2 * time.Second, 20
	for name, away := range map[string]func(*testnode.Link){
		"silent":  func(l *testnode.Link) { l.Pause() },
		"refused": func(l *testnode.Link) { l.Refuse(); l.Reset() },
	} {
		for mode, exclusive := range bothModes {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				n := testnode.Start(t)
				link := testnode.NewLink(t, n.Addr)
				for i := range questions {
					if err := os.WriteFile(filepath.Join(n.Home, fmt.Sprint("f", i)), []byte("content"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				files := newTimed(t, exclusive, timeout, dial(n.TargetVia(link)))
				var handles []vfs.Handle
				for i := range questions {
					e, err := files.Lookup(t.Context(), vfs.RootIno, fmt.Sprint("f", i))
					if err != nil {
						t.Fatal(err)
					}
					o, err := files.Open(t.Context(), e.Attr.Ino, uint32(os.O_RDONLY))
					if err != nil {
						t.Fatal(err)
					}
					handles = append(handles, o.Handle)
				}
				away(link)
				start, buf := time.Now(), make([]byte, 7)
				for i, h := range handles {
					if _, err := files.Read(t.Context(), h, buf, 0); err == nil {
						continue // it was fetched ahead
					} else if vfs.Errno(err) != syscall.ETIMEDOUT {
						t.Errorf("read %d: %v", i, err)
					}
				}
				// With one wait each it would be ten times as long.
				if took := time.Since(start); took > questions*timeout/2 {
					t.Errorf("%d reads took %v", questions, took)
				}
				link.Resume()
				link.Heal()
				eventually(t, "it can be read again", func() bool {
					n, err := files.Read(t.Context(), handles[0], buf, 0)
					return err == nil && string(buf[:n]) == "content"
				})
				for _, h := range handles {
					files.Release(h)
				}
			})
		}
	}
}

func newTimed(t *testing.T, exclusive bool, timeout time.Duration, dial func(context.Context) (vfs.Conn, error)) vfs.FileSystem {
	t.Helper()
	var files vfs.FileSystem
	var err error
	if exclusive {
		files, err = vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{Dial: dial, Spool: filepath.Join(t.TempDir(), "spool"), Timeout: timeout})
	} else {
		files, err = vfs.NewShared(t.Context(), vfs.SharedOptions{Dial: dial, Timeout: timeout})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return files
}

// A server that greets and then ends each connection is not asked again and again, and who waits for
// it does so for the timeout.
func TestShortConnections(t *testing.T) {
	n := testnode.Start(t)
	var made atomic.Int64
	first := make(chan *remote.Client, 1)
	files := newTimed(t, false, 3*time.Second, func(ctx context.Context) (vfs.Conn, error) {
		c, err := remote.Dial(ctx, n.Target(), remote.Options{})
		if err != nil {
			return nil, err
		}
		if made.Add(1) == 1 {
			first <- c
		} else {
			time.AfterFunc(20*time.Millisecond, func() { c.Close() })
		}
		return c, nil
	})
	(<-first).Close()
	asked := 0
	eventually(t, "who asks is told", func() bool {
		asked++
		_, err := files.Lookup(t.Context(), vfs.RootIno, fmt.Sprint("missing", asked))
		return vfs.Errno(err) == syscall.ETIMEDOUT
	})
	if n := made.Load(); n > 40 {
		t.Errorf("%d connections were made", n)
	}
}
