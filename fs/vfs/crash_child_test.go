package vfs_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
)

// crashEnv makes the test binary mount a folder in exclusive mode and do what it
// is told, until it is killed.
const crashEnv = "VFS_TEST_CRASH"

// crashSpec is what the process that will be killed is told.
type crashSpec struct {
	Target *remote.Target // nil: sftp-server is started without SSH, in Home
	Home   string
	Root   string
	Spool  string
	// Journal is the length at which the journal is begun anew; 0: the usual.
	Journal int64
	// Disk is the size of a file system of its own for the spool; 0: none.
	Disk int64
	// NoKeep has no room set aside in the journal.
	NoKeep bool
	Debug  bool
}

func crashChild(spec string) error {
	var s crashSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	if s.Journal > 0 {
		vfs.SetJournal(s.Journal, 4*s.Journal)
	}
	if s.NoKeep {
		vfs.KeepNothing()
	}
	if s.Disk > 0 {
		if err := ownDisk(filepath.Dir(s.Spool), s.Disk); err != nil {
			return err
		}
	}
	level := slog.LevelError
	if s.Debug {
		level = slog.LevelDebug
	}
	local := &localNode{home: s.Home}
	o := vfs.ExclusiveOptions{
		Dial: local.dial, Root: s.Root, Spool: s.Spool, Sessions: 2,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}
	if s.Target != nil {
		o.Dial = dial(*s.Target)
	}
	x, err := vfs.NewExclusive(context.Background(), o)
	if err != nil {
		return err
	}
	c := crasher{x: x, v: contract.VFS{Files: x, Root: vfs.RootIno}, link: local, open: map[int]contract.File{}}
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	if err := out.Encode(answer{}); err != nil {
		return err
	}
	for {
		var o op
		if err := in.Decode(&o); err != nil {
			return errors.Join(err, x.Close())
		}
		a, err := c.do(o)
		if err != nil {
			a.Errno, a.Text = vfs.Errno(err), err.Error()
		}
		if err := out.Encode(a); err != nil || o.Kind == opEnd {
			return err
		}
	}
}

// ownDisk mounts a small file system in this process's own mount namespace.
func ownDisk(dir string, size int64) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%d", size)); err != nil {
		return fmt.Errorf("mount a tmpfs at %s: %w", dir, err)
	}
	return nil
}

// crasher does operations.
type crasher struct {
	x    *vfs.Exclusive
	v    contract.VFS
	link *localNode
	open map[int]contract.File
}

func (c *crasher) do(o op) (a answer, err error) {
	switch o.Kind {
	case opCreate, opOpen:
		flags := syscall.O_RDWR
		if o.Kind == opCreate {
			flags |= syscall.O_CREAT | syscall.O_EXCL
		}
		c.open[o.Handle], err = c.v.Open(o.Path, flags, o.Mode)
	case opClose:
		err = c.open[o.Handle].Close()
		delete(c.open, o.Handle)
		return a, err
	case opWrite:
		_, err = c.open[o.Handle].WriteAt(o.Data, o.Off)
	case opTruncate:
		err = c.open[o.Handle].Truncate(o.Off)
	case opMkdir:
		err = c.v.Mkdir(o.Path, o.Mode)
	case opRmdir:
		err = c.v.Rmdir(o.Path)
	case opUnlink:
		err = c.v.Unlink(o.Path)
	case opRename:
		err = c.v.Rename(o.Path, o.To, false)
	case opLink:
		err = c.v.Link(o.Path, o.To)
	case opSymlink:
		err = c.v.Symlink(o.To, o.Path)
	case opChmod:
		err = c.v.Chmod(o.Path, o.Mode)
	case opUtimes:
		err = c.v.Utimes(o.Path, time.Unix(o.Off, 0), time.Unix(o.Off, 0))
	case opFsync:
		err = c.open[o.Handle].Sync()
	case opSync:
		err = c.x.Sync(context.Background(), nil)
	case opCut:
		c.link.cut(true)
	case opHeal:
		c.link.cut(false)
	case opDump:
		a.Tree = map[string]string{}
		err = dumpTree(c.v, ".", a.Tree)
	case opRead:
		a.Data, err = readTree(c.v, o.Path)
	case opDrop:
		c.x.Drop()
	case opRetry:
		c.x.Retry("")
	case opDiscard:
		_, err = c.x.Discard(o.Path)
	case opEnd:
		for _, f := range c.open {
			err = errors.Join(err, f.Close())
		}
		err = errors.Join(err, c.x.Close())
	}
	if f := c.open[o.Handle]; f != nil && err == nil {
		st, err := f.Stat()
		a.Mtime = st.Mtime.UnixNano()
		return a, err
	}
	return a, err
}

func readTree(t contract.Tree, p string) ([]byte, error) {
	f, err := t.Open(p, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
}

// dumpTree describes all below dir, as model.describe does.
func dumpTree(t contract.Tree, dir string, lines map[string]string) error {
	names, err := t.List(dir)
	for _, name := range names {
		p := path.Join(dir, name)
		a, err := t.Lstat(p)
		if err != nil {
			return err
		}
		switch a.Mode & vfs.TypeMask {
		case vfs.TypeDir:
			lines[p] = fmt.Sprintf("d %o", a.Mode&0o7777)
			err = dumpTree(t, p, lines)
		case vfs.TypeSymlink:
			var target string
			target, err = t.Readlink(p)
			lines[p] = "l " + target
		default:
			var data []byte
			data, err = readTree(t, p)
			if err == nil && int64(len(data)) != a.Size {
				err = fmt.Errorf("%s: %d bytes, of %d", p, len(data), a.Size)
			}
			lines[p] = fmt.Sprintf("%s mtime %d", describeFile(a.Mode&0o7777, int(a.Nlink), data), a.Mtime.Unix())
		}
		if err != nil {
			return err
		}
	}
	return err
}

// localNode is a node without SSH: each session is an sftp-server of its own.
type localNode struct {
	home   string
	limit  atomic.Int64 // the largest file that new sessions can write, in KiB; 0: any
	fsyncs atomic.Int64 // how many were sent

	mu    sync.Mutex // guards what follows
	dead  bool
	conns []*localConn
}

var errCut = errors.New("the link is cut")

func (n *localNode) dial(context.Context) (vfs.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return nil, errCut
	}
	c := &localConn{node: n, done: make(chan struct{})}
	n.conns = append(n.conns, c)
	return c, nil
}

// cut kills what there is of sessions and refuses new ones, or ends that.
func (n *localNode) cut(dead bool) {
	n.mu.Lock()
	n.dead = dead
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

type localConn struct {
	node *localNode
	done chan struct{}

	mu       sync.Mutex // guards what follows
	closed   bool
	sessions []*localSession
}

func (c *localConn) Done() <-chan struct{} { return c.done }

func (c *localConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.done)
		for _, s := range c.sessions {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
	}
	return nil
}

func (c *localConn) OpenSubsystem(_ context.Context, name string) (io.ReadWriteCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errCut
	}
	cmd := exec.Command(sftpServer())
	if kib := c.node.limit.Load(); kib > 0 {
		cmd = withLimit(kib)
	}
	// Standard error tells who waits for it that no session is left.
	cmd.Dir, cmd.Stderr = c.node.home, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &localSession{in, out, cmd, c.node}
	c.sessions = append(c.sessions, s)
	return s, nil
}

// sftpServer is the path of OpenSSH's sftp-server.
func sftpServer() string {
	for _, p := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return "sftp-server"
}

type localSession struct {
	io.WriteCloser
	out  io.Reader
	cmd  *exec.Cmd
	node *localNode
}

func (s *localSession) Write(p []byte) (int, error) {
	s.node.fsyncs.Add(int64(bytes.Count(p, []byte("fsync@openssh.com"))))
	return s.WriteCloser.Write(p)
}

func (s *localSession) Read(p []byte) (int, error) { return s.out.Read(p) }
