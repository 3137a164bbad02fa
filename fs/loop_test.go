package fs

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// kernel is the other end of a loop: a socket whose messages are whole, as those of /dev/fuse.
type kernel struct {
	t    *testing.T
	fd   int
	loop *loop
	log  string // file of what the loop logs
	over chan struct{}
}

func newKernel(t *testing.T, files func(*calls) fuse.RawFileSystem, o fuse.MountOptions) *kernel {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{t: t, fd: pair[0], log: filepath.Join(t.TempDir(), "log"), over: make(chan struct{})}
	said, err := os.Create(k.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { said.Close() })
	log := slog.New(slog.NewTextHandler(said, nil))
	if k.loop, err = newLoop(pair[1], log); err != nil {
		t.Fatal(err)
	}
	o.Logger = slog.NewLogLogger(log.Handler(), slog.LevelInfo)
	o.MaxWrite = MostRequest
	init := binary.NativeEndian.AppendUint32(nil, 7)
	init = binary.NativeEndian.AppendUint32(init, 36)
	k.send(26, 1, append(init, make([]byte, 56)...))
	if err := k.loop.greet(files(k.loop.calls), &o); err != nil {
		t.Fatal(err)
	}
	k.answered(1, 0)
	go func() {
		defer close(k.over)
		k.loop.serve()
	}()
	t.Cleanup(func() {
		unix.Close(k.fd)
		select {
		case <-k.over:
		case <-time.After(10 * time.Second):
			t.Error("the loop goes on after its end")
		}
	})
	return k
}

// send sends a request (fuse_in_header).
func (k *kernel) send(opcode uint32, unique uint64, body []byte) {
	k.t.Helper()
	b := binary.NativeEndian.AppendUint32(nil, uint32(requestHeader+len(body)))
	b = binary.NativeEndian.AppendUint32(b, opcode)
	b = binary.NativeEndian.AppendUint64(b, unique)
	b = binary.NativeEndian.AppendUint64(b, 5) // node
	b = append(b, make([]byte, requestHeader-len(b))...)
	if _, err := unix.Write(k.fd, append(b, body...)); err != nil {
		k.t.Fatal(err)
	}
}

// message takes what the loop has written (fuse_out_header).
func (k *kernel) message() (unique uint64, status int32, body []byte) {
	k.t.Helper()
	b := make([]byte, 2*MostRequest)
	n, err := unix.Read(k.fd, b)
	if err != nil || n < answerHeader {
		k.t.Fatalf("%d bytes, %v", n, err)
	}
	if length := binary.NativeEndian.Uint32(b); int(length) != n {
		k.t.Errorf("%d bytes, which say that they are %d", n, length)
	}
	return binary.NativeEndian.Uint64(b[8:]), int32(binary.NativeEndian.Uint32(b[4:])), b[answerHeader:n]
}

// answered takes the answer to a request and returns what is in it.
func (k *kernel) answered(unique uint64, errno syscall.Errno) string {
	k.t.Helper()
	got, status, body := k.message()
	if got != unique || status != -int32(errno) {
		k.t.Errorf("answer to request %d with status %d; want request %d, status %d", got, status, unique, -int32(errno))
	}
	return string(body)
}

func readIn(size uint32) []byte {
	b := make([]byte, 40) // fuse_read_in
	binary.NativeEndian.PutUint32(b[16:], size)
	return b
}

// blocking has reads that take until the others are asked.
type blocking struct {
	fuse.RawFileSystem
	calls   *calls
	reading chan uint64
	release chan struct{}
}

func newBlocking() *blocking {
	return &blocking{RawFileSystem: fuse.NewDefaultRawFileSystem(), reading: make(chan uint64), release: make(chan struct{})}
}

func (b *blocking) on(c *calls) fuse.RawFileSystem {
	b.calls = c
	return b
}

func (b *blocking) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	g := &glue{calls: b.calls, times: new(latencies)}
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	done := ctx.Done()
	b.reading <- in.Unique
	select {
	case <-b.release:
		return data(buf[:copy(buf, "content")]), fuse.OK
	case <-done:
		return nil, fuse.EINTR
	}
}

func TestLoop(t *testing.T) {
	k := newKernel(t, func(*calls) fuse.RawFileSystem { return fuse.NewDefaultRawFileSystem() }, fuse.MountOptions{})
	k.send(3, 2, make([]byte, 16)) // GETATTR
	k.answered(2, syscall.ENOSYS)
	k.send(999, 4, nil)
	k.answered(4, syscall.ENOSYS)
	k.send(opRead, 8, readIn(1<<31)) // more than there is room for
	k.answered(8, syscall.EIO)
	k.send(opForget, 10, make([]byte, 8)) // no answer
	k.send(16, 12, make([]byte, MostRequest/16))
	k.answered(12, syscall.ENOSYS)

	for _, c := range []struct {
		tell func()
		code int32
		ends string
	}{
		{func() { k.loop.InvalidateEntry(7, "name") }, 3, "\x04\x00\x00\x00\x00\x00\x00\x00name\x00"},
		{func() { k.loop.InvalidateInode(7) }, 2, strings.Repeat("\x00", 16)},
	} {
		c.tell()
		unique, code, body := k.message()
		if unique != 0 || code != c.code || binary.NativeEndian.Uint64(body) != 7 || !strings.HasSuffix(string(body), c.ends) {
			t.Errorf("request %d, code %d, %q", unique, code, body)
		}
	}
	if said, err := os.ReadFile(k.log); err != nil || strings.Contains(string(said), "level=ERROR") {
		t.Errorf("%s, %v", said, err)
	}
}

// Requests are answered while others wait, and one that is interrupted ends; where one is
// served at a time, too.
func TestLoopInterrupted(t *testing.T) {
	for _, single := range []bool{false, true} {
		b := newBlocking()
		k := newKernel(t, b.on, fuse.MountOptions{SingleThreaded: single})
		waiting := 3 * mostIdle
		if single {
			waiting = 1
		}
		for i := range waiting {
			k.send(opRead, uint64(2+2*i), readIn(100))
			<-b.reading
		}
		k.send(opInterrupt, 1000, binary.NativeEndian.AppendUint64(nil, 2))
		k.answered(2, syscall.EINTR)
		close(b.release)
		for range waiting - 1 {
			if _, status, body := k.message(); status != 0 || string(body) != "content" {
				t.Errorf("status %d, %q", status, body)
			}
		}
		k.send(opRead, 1002, readIn(3))
		<-b.reading
		if got := k.answered(1002, 0); got != "con" {
			t.Errorf("%q", got)
		}
	}
}

// The end of a mount ends what waits.
func TestLoopEnds(t *testing.T) {
	b := newBlocking()
	k := newKernel(t, b.on, fuse.MountOptions{})
	k.send(opRead, 2, readIn(100))
	<-b.reading
	if err := unix.Shutdown(k.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	k.answered(2, syscall.EINTR)
	<-k.over
	g := &glue{calls: b.calls, times: new(latencies)}
	ctx, answered := g.request(nil, &fuse.InHeader{Unique: 4})
	defer answered()
	select {
	case <-ctx.Done():
	default:
		t.Error("what comes after the end waits")
	}
}
