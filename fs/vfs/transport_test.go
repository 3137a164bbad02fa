package vfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/testnode"
)

// linked is a file system whose link to the node can be cut.
type linked struct {
	*vfs.Shared
	node *testnode.Node
	link *testnode.Link
}

func newLinked(t *testing.T, o vfs.SharedOptions) linked {
	t.Helper()
	n := testnode.Start(t)
	l := testnode.NewLink(t, n.Addr)
	return linked{newShared(t, n.TargetVia(l), o), n, l}
}

// file makes a file on the node and opens it.
func (l linked) file(t *testing.T) vfs.Handle {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.node.Home, "f"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := l.Lookup(t.Context(), vfs.RootIno, "f")
	if err != nil {
		t.Fatal(err)
	}
	o, err := l.Open(t.Context(), e.Attr.Ino, uint32(os.O_RDWR))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release(o.Handle) })
	return o.Handle
}

// goesOn proves that the file system works, without any help.
func (l linked) goesOn(t *testing.T) {
	t.Helper()
	if _, err := l.Mkdir(t.Context(), vfs.RootIno, "after", 0o755); err != nil {
		t.Fatalf("change after the loss: %v", err)
	}
	if _, err := l.Lookup(t.Context(), vfs.RootIno, "after"); err != nil {
		t.Fatalf("question after the loss: %v", err)
	}
	if st := l.Status(); !st.Connected || st.LinkError != "" {
		t.Errorf("status %+v", st)
	}
}

// alive proves that an open file of the lost connection goes on.
func (l linked) alive(t *testing.T, h vfs.Handle) {
	t.Helper()
	got := make([]byte, 10)
	if n, err := l.Read(t.Context(), h, got, 0); err != nil || string(got[:n]) != "content" {
		t.Errorf("read of a file opened before: %q, %v", got[:n], err)
	}
	if err := l.write(h, "C", 0); err != nil {
		t.Errorf("write of a file opened before: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(l.node.Home, "f")); err != nil || string(b) != "Content" {
		t.Errorf("the node has %q, %v", b, err)
	}
}

// write writes and waits for the node, as closing a descriptor does.
func (l linked) write(h vfs.Handle, data string, off int64) error {
	ctx := context.Background()
	if err := l.Write(ctx, h, []byte(data), off, false); err != nil {
		return err
	}
	return l.Flush(ctx, h)
}

func TestLinkReset(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{})
	h := l.file(t)
	l.link.Reset()
	l.goesOn(t)
	l.alive(t, h)
}

func TestNodeKilled(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{})
	h := l.file(t)
	l.node.Kill()
	eventually(t, "the loss is noticed", func() bool { return !l.Status().Connected })
	answer := make(chan error, 1)
	go func() { // waits until the node is back
		_, err := l.Lookup(context.Background(), vfs.RootIno, "f")
		answer <- err
	}()
	l.node.Restart()
	if err := <-answer; err != nil {
		t.Errorf("question during the loss: %v", err)
	}
	l.goesOn(t)
	l.alive(t, h)
}

// A question that the loss overtakes is asked again, of an open file too, and for a
// change the node is looked at to see whether it was done.
func TestLossUnderRequests(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{})
	h := l.file(t)
	f, err := l.Lookup(t.Context(), vfs.RootIno, "f")
	if err != nil {
		t.Fatal(err)
	}
	vfs.AgeListings(l.Shared, 2*time.Hour) // the attributes are to be asked for
	l.link.Pause()
	asked, changed, read := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := l.Getattr(context.Background(), f.Attr.Ino, h)
		asked <- err
	}()
	go func() {
		_, err := l.Mkdir(context.Background(), vfs.RootIno, "d", 0o755)
		changed <- err
	}()
	go func() {
		n, err := l.Read(context.Background(), h, make([]byte, 10), 0)
		if err == nil && n != len("content") {
			err = fmt.Errorf("read %d bytes", n)
		}
		read <- err
	}()
	eventually(t, "the requests are under way", func() bool { return vfs.Inflight(l.Shared) >= 3 })
	l.link.Reset()
	l.link.Resume()
	if err := <-asked; err != nil {
		t.Errorf("question: %v", err)
	}
	if err := <-changed; err != nil {
		t.Errorf("change: %v", err)
	}
	if err := <-read; err != nil {
		t.Errorf("read: %v", err)
	}
	l.goesOn(t)
}

func TestTimeout(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{Timeout: 200 * time.Millisecond})
	h := l.file(t)
	l.link.Drop()
	for name, request := range map[string]func() error{
		"stat":  func() error { _, err := l.Lookup(t.Context(), vfs.RootIno, "g"); return err },
		"mkdir": func() error { _, err := l.Mkdir(t.Context(), vfs.RootIno, "d", 0o755); return err },
		"read":  func() error { _, err := l.Read(t.Context(), h, make([]byte, 10), 0); return err },
		"write": func() error { return l.write(h, "x", 0) },
		"fsync": func() error { return l.Fsync(t.Context(), h) },
	} {
		if err := request(); vfs.Errno(err) != syscall.ETIMEDOUT {
			t.Errorf("%s: %v, want ETIMEDOUT", name, err)
		}
	}
	// And without any connection.
	l.link.Refuse()
	l.link.Reset()
	eventually(t, "the loss is noticed", func() bool { return !l.Status().Connected })
	_, err := l.Lookup(t.Context(), vfs.RootIno, "g")
	if vfs.Errno(err) != syscall.ETIMEDOUT {
		t.Errorf("stat without a connection: %v, want ETIMEDOUT", err)
	}
	if st := l.Status(); st.LinkError == "" {
		t.Errorf("status %+v does not say why", st)
	}
	l.link.Heal()
	eventually(t, "it is connected again", func() bool { return l.Status().Connected })
	if _, err := l.Lookup(t.Context(), vfs.RootIno, "g"); vfs.Errno(err) != syscall.ENOENT {
		t.Error(err)
	}
}

// What umount(8) and fusermount3(1) ask is answered without the node: with what was last
// known, and anew when the node is back.
func TestRootWhileSilent(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{Timeout: -1, Cache: vfs.CacheOptions{Off: true}})
	chmod := func(mode uint32) {
		t.Helper()
		if _, err := l.Setattr(t.Context(), vfs.RootIno, 0, vfs.SetAttr{Mode: &mode}); err != nil {
			t.Fatal(err)
		}
	}
	isNow := func(mode uint32) {
		t.Helper()
		if e, err := l.Getattr(context.Background(), vfs.RootIno, 0); err != nil || e.Attr.Mode != vfs.TypeDir|mode {
			t.Errorf("the root has mode %o, %v, want %o", e.Attr.Mode, err, mode)
		}
	}
	chmod(0o711)
	figures, err := l.Statfs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []func(){l.link.Drop, func() { l.link.Refuse(); l.link.Reset() }} {
		cut()
		for range 3 {
			isNow(0o711)
			if now, err := l.Statfs(context.Background()); err != nil || now.Blocks != figures.Blocks || now.FragmentSize != figures.FragmentSize {
				t.Errorf("the figures of the file system were %+v and are %+v, %v", figures, now, err)
			}
		}
		l.link.Heal()
		eventually(t, "the questions are answered", func() bool { return l.Status().Connected && vfs.Inflight(l.Shared) == 0 })
	}
	if err := os.Chmod(l.node.Home, 0o750); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is asked again", func() bool {
		e, err := l.Getattr(t.Context(), vfs.RootIno, 0)
		return err == nil && e.Attr.Mode == vfs.TypeDir|0o750
	})
	chmod(0o755)
}

// A link that is slow but moves is waited for, however long a request takes: this
// one needs three seconds.
func TestSlowLinkIsNotLost(t *testing.T) {
	const rate = 512 << 10
	l := newLinked(t, vfs.SharedOptions{Timeout: 2 * time.Second})
	h := l.file(t)
	l.link.SetBandwidth(rate)
	if err := l.Write(t.Context(), h, make([]byte, 3*rate), 0, false); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Read(t.Context(), h, make([]byte, 3*rate), 0); err != nil || n != 3*rate {
		t.Fatalf("read %d bytes, %v", n, err)
	}
}

func TestInterrupt(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{Timeout: -1})
	l.link.Drop()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	go func() {
		_, err := l.Mkdir(ctx, vfs.RootIno, "d", 0o755)
		failed <- err
	}()
	go func() { // waits for the lock of the folder, behind the other
		_, err := l.Mkdir(ctx, vfs.RootIno, "e", 0o755)
		failed <- err
	}()
	eventually(t, "a request is under way", func() bool { return vfs.Inflight(l.Shared) > 0 })
	cancel()
	for range 2 {
		if err := <-failed; vfs.Errno(err) != syscall.EINTR {
			t.Errorf("%v, want EINTR", err)
		}
	}
}

// An answer that comes soon after the interrupt counts.
func TestInterruptGrace(t *testing.T) {
	l := newLinked(t, vfs.SharedOptions{})
	l.link.SetRTT(20 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Mkdir(ctx, vfs.RootIno, "d", 0o755); err != nil && vfs.Errno(err) != syscall.EINTR {
		t.Fatal(err)
	}
	if _, err := l.Getattr(ctx, vfs.RootIno, 0); err != nil {
		t.Fatalf("an interrupted question: %v", err)
	}
}

func TestCloseDuringOutage(t *testing.T) {
	n := testnode.Start(t)
	for name, cut := range map[string]func(*testnode.Link){
		"silent":  (*testnode.Link).Drop,
		"refused": func(l *testnode.Link) { l.Refuse(); l.Reset() },
		// Connects again, and then the handshake gets no answer.
		"half": func(l *testnode.Link) { l.Drop(); l.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			link := testnode.NewLink(t, n.Addr)
			s, err := vfs.NewShared(t.Context(), vfs.SharedOptions{Dial: dial(n.TargetVia(link)), Timeout: -1})
			if err != nil {
				t.Fatal(err)
			}
			cut(link)
			failed := make(chan error, 1)
			go func() {
				_, err := s.Lookup(context.Background(), vfs.RootIno, "f")
				failed <- err
			}()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-failed; vfs.Errno(err) != syscall.EIO {
				t.Errorf("%v, want EIO", err)
			}
		})
	}
}
