package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bundlefs/fs/vfs"
)

// loop reads the requests of the kernel on the descriptor of a mount, and writes the answers.
//
// Go's scheduler waits for the descriptor as it waits for the network. The server of go-fuse has a
// thread wait in read(2): from each of those the runtime takes the processor away again, for which
// it looks many thousand times a second, at the cost of the node's answers and of the programs that
// wait for them.
//
// One goroutine at a time reads. Before it answers a request it has another one read on: an
// answer may take as long as the node does.
type loop struct {
	file   *os.File
	conn   syscall.RawConn // of file
	server *fuse.ProtocolServer
	log    *slog.Logger
	single *sync.Mutex // held while a request is answered, nil where several are at a time

	calls   *calls
	gone    chan struct{} // closed when the kernel has ended the mount
	turn    chan struct{} // passes the turn to read to one that has nothing to do
	idle    atomic.Int32
	workers sync.WaitGroup
	buffers buffers
	next    *buffer // to read into; belongs to the one that reads
}

const (
	// mostIdle is how many goroutines are kept for the next request.
	mostIdle = 16
	// smallRequest is the size in bytes up to which a request is copied out of the large buffer it
	// was read into.
	smallRequest = bufferLeast
	// headroom is what a message of the kernel has besides data, at most.
	headroom = 4 << 10
)

// The messages of the kernel begin with a header: linux/fuse.h, fuse_in_header and fuse_out_header.
const (
	requestHeader = int(unsafe.Sizeof(fuse.InHeader{}))
	answerHeader  = int(unsafe.Sizeof(fuse.OutHeader{}))
)

// The requests that are looked at here (linux/fuse.h, fuse_opcode).
const (
	opForget      = 2
	opRead        = 15
	opReadDir     = 28
	opInterrupt   = 36
	opBatchForget = 42
	opReadDirPlus = 44
)

// newLoop takes over the descriptor of a mount.
func newLoop(fd int, log *slog.Logger) (*loop, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("descriptor of the mount: %w", err)
	}
	l := &loop{
		file: os.NewFile(uintptr(fd), "/dev/fuse"), log: log, calls: newCalls(),
		gone: make(chan struct{}), turn: make(chan struct{}),
	}
	var err error
	if l.conn, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("descriptor of the mount: %w", err)
	}
	return l, nil
}

// greet answers the first request, with which the kernel asks what the mount can do.
func (l *loop) greet(raw fuse.RawFileSystem, o *fuse.MountOptions) error {
	l.server = fuse.NewProtocolServer(raw, o)
	if o.SingleThreaded {
		l.single = new(sync.Mutex)
	}
	request, err := l.read()
	if err != nil {
		return err
	}
	answer := l.answer(request)
	if answer == nil {
		return errors.New("the kernel's greeting has no answer")
	}
	defer l.buffers.put(answer)
	if err := l.write(answer.b); err != nil {
		return err
	}
	if status := int32(binary.NativeEndian.Uint32(answer.b[4:])); status != 0 {
		return fmt.Errorf("the kernel and this program do not understand each other: %w", syscall.Errno(-status))
	}
	return nil
}

// serve answers until the mount has ended.
func (l *loop) serve() {
	l.workers.Go(l.work)
	l.workers.Wait()
	l.file.Close()
}

// work reads a request and answers it, over and over. It begins with the turn to read.
func (l *loop) work() {
	for {
		request, err := l.read()
		if err != nil {
			if !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.ECONNABORTED) {
				l.log.Error("cannot read the kernel's requests", "error", err)
			}
			l.calls.end()
			close(l.gone)
			return
		}
		select {
		case l.turn <- struct{}{}:
		default:
			l.workers.Go(l.work)
		}
		if answer := l.answer(request); answer != nil {
			// ENOENT: the program no longer waits. ENODEV: the mount has ended.
			if err := l.write(answer.b); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENODEV) {
				l.log.Error("cannot answer the kernel", "error", err)
			}
			l.buffers.put(answer)
		}
		if !l.await() {
			return
		}
	}
}

// await waits for the turn to read; false if there are others enough, or at the end.
func (l *loop) await() bool {
	defer l.idle.Add(-1)
	if l.idle.Add(1) > mostIdle {
		return false
	}
	select {
	case <-l.turn:
		return true
	case <-l.gone:
		return false
	}
}

// read returns the next request that has an answer. ENODEV says that the mount has ended.
func (l *loop) read() (*buffer, error) {
	for {
		if l.next == nil {
			l.next = l.buffers.get(MostRequest + headroom)
		}
		n, err := l.file.Read(l.next.b)
		switch {
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EINTR):
			continue // it was interrupted before it was read
		case err != nil:
			return nil, err
		case n < requestHeader:
			return nil, fmt.Errorf("a request of %d bytes", n)
		}
		request := l.next
		switch opcode(request.b) {
		case opForget, opBatchForget: // without an answer; they come by thousands
			l.server.HandleRequest([][]byte{request.b[:n]}, nil)
			continue
		}
		if n <= smallRequest {
			request = l.buffers.get(n)
			copy(request.b, l.next.b[:n])
		} else {
			l.next = nil
		}
		request.b = request.b[:n]
		return request, nil
	}
}

// opcode is the kind of a request, of which the header is there.
func opcode(request []byte) uint32 { return binary.NativeEndian.Uint32(request[4:]) }

// answer is what the kernel gets on a request, which it takes; nil for nothing.
func (l *loop) answer(request *buffer) *buffer {
	defer l.buffers.put(request)
	if l.single != nil && opcode(request.b) != opInterrupt {
		l.single.Lock()
		defer l.single.Unlock()
	}
	answer := l.buffers.get(answerSize(request.b))
	n, status := l.server.HandleRequest([][]byte{request.b}, [][]byte{answer.b})
	if opcode(request.b) == opInterrupt && len(request.b) >= requestHeader+8 {
		l.calls.interrupted(binary.NativeEndian.Uint64(request.b[requestHeader:])) // which it has marked
	}
	if status != fuse.OK { // a program waits for an answer nevertheless
		n = answerHeader
		binary.NativeEndian.PutUint32(answer.b[0:], uint32(n))
		binary.NativeEndian.PutUint32(answer.b[4:], uint32(-int32(status)))
		copy(answer.b[8:16], request.b[8:16]) // the number of the request
	}
	if n == 0 {
		l.buffers.put(answer)
		return nil
	}
	answer.b = answer.b[:n]
	return answer
}

// answerSize is the size in bytes that the answer to a request has at most.
func answerSize(request []byte) int {
	switch opcode(request) {
	case opRead, opReadDir, opReadDirPlus:
		var in fuse.ReadIn
		if len(request) >= int(unsafe.Sizeof(in)) {
			return headroom + int(min(binary.NativeEndian.Uint32(request[unsafe.Offsetof(in.Size):]), MostRequest))
		}
	}
	return 2 * headroom // more than the target of a symlink (PATH_MAX)
}

// write writes a message. Not by os.File.Write, which has one at a time: the kernel, when it is told
// to forget a name, waits for who works in the folder, who may wait for an answer.
func (l *loop) write(message []byte) (err error) {
	gone := l.conn.Control(func(fd uintptr) {
		for {
			if _, err = unix.Write(int(fd), message); err != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(gone, err)
}

// InvalidateEntry has the kernel forget a name, which may be unknown to it.
func (l *loop) InvalidateEntry(parent vfs.Ino, name string) {
	b := binary.NativeEndian.AppendUint64(nil, uint64(parent)) // fuse_notify_inval_entry_out
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, 0)
	l.notify(-fuse.NOTIFY_INVAL_ENTRY, append(append(b, name...), 0))
}

// InvalidateInode has the kernel forget the attributes and the data of a file.
func (l *loop) InvalidateInode(ino vfs.Ino) {
	b := binary.NativeEndian.AppendUint64(nil, uint64(ino)) // fuse_notify_inval_inode_out: all, from 0 on
	l.notify(-fuse.NOTIFY_INVAL_INODE, append(b, make([]byte, 16)...))
}

// InvalidateAttr has the kernel forget the attributes of a file, and of what it asked before not believe
// the answers. It takes no lock for that which somebody holds who waits for an answer, unlike
// InvalidateInode and InvalidateEntry: so this may be done within a request.
func (l *loop) InvalidateAttr(ino vfs.Ino) {
	b := binary.NativeEndian.AppendUint64(nil, uint64(ino)) // fuse_notify_inval_inode_out
	b = binary.NativeEndian.AppendUint64(b, math.MaxUint64) // an offset of -1: no data
	l.notify(-fuse.NOTIFY_INVAL_INODE, append(b, make([]byte, 8)...))
}

// notify tells the kernel what it has not asked for.
func (l *loop) notify(code int32, body []byte) {
	message := binary.NativeEndian.AppendUint32(nil, uint32(answerHeader+len(body)))
	message = binary.NativeEndian.AppendUint32(message, uint32(code))
	message = binary.NativeEndian.AppendUint64(message, 0)
	// ENOENT: it is not known to the kernel. ENODEV: the mount has ended.
	if err := l.write(append(message, body...)); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENODEV) {
		l.log.Error("cannot tell the kernel what has changed", "error", err)
	}
}

// buffers are used again. Those of one class have the same size.
type buffers struct{ classes [bufferClasses]sync.Pool }

// buffer is for one message; its user may cut it shorter.
type buffer struct {
	b     []byte
	class int
}

// bufferLeast is the size in bytes of the smallest buffers. Those of class n > 0 have room for
// bufferLeast<<n, and the headroom.
const (
	bufferLeast   = 4 << 10
	bufferClasses = 10 // up to 2 MiB
)

func (p *buffers) get(n int) *buffer {
	class, size := 0, bufferLeast
	for n > size && class < bufferClasses-1 {
		class++
		size = bufferLeast<<class + headroom
	}
	if b, ok := p.classes[class].Get().(*buffer); ok {
		b.b = b.b[:cap(b.b)]
		return b
	}
	return &buffer{make([]byte, max(size, n)), class}
}

func (p *buffers) put(b *buffer) { p.classes[b.class].Put(b) }

// data is what was read into the place where the answer has it.
type data []byte

// Bytes implements [fuse.ReadResult].
func (d data) Bytes([]byte) ([]byte, fuse.Status) { return d, fuse.OK }

// Size implements [fuse.ReadResult].
func (d data) Size() int { return len(d) }

// Done implements [fuse.ReadResult].
func (d data) Done() {}
