package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// server is a Command that starts a real SFTP server in a folder.
func server(t *testing.T, dir string) Opener {
	t.Helper()
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"} {
		if _, err := os.Stat(path); err == nil {
			return Command([]string{path, "-d", dir}, nil, quiet)
		}
	}
	t.Fatal("there is no sftp-server: run make setup")
	return nil
}

// client opens a session and speaks SFTP on it.
func client(t *testing.T, c *Conn) *sftp.Client {
	t.Helper()
	s, err := c.OpenSubsystem(t.Context(), "sftp")
	if err != nil {
		t.Fatal(err)
	}
	f, err := sftp.NewClientPipe(s, s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// work writes and reads back a file of a megabyte.
func work(f *sftp.Client, name string) error {
	data := bytes.Repeat([]byte(name+"\n"), 1<<20/(len(name)+1))
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	r, err := f.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("%s: read %d of %d bytes, %w", name, len(got), len(data), err)
	}
	return nil
}

func TestManySessions(t *testing.T) {
	for _, streams := range []int{0, 3} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			dir := t.TempDir()
			c, err := Dial(t.Context(), Options{Open: server(t, dir), Streams: streams})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			errs := make(chan error, 5)
			var clients []*sftp.Client
			for range cap(errs) {
				clients = append(clients, client(t, c))
			}
			if n := len(c.streams); n != max(streams, 1) {
				t.Errorf("%d streams", n)
			}
			for i, f := range clients {
				go func() { errs <- work(f, fmt.Sprint("file ", i)) }()
			}
			for range clients {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			// One that ends leaves the others.
			clients[0].Close()
			if err := work(clients[1], "after"); err != nil {
				t.Error(err)
			}
			if _, err := c.OpenSubsystem(t.Context(), "shell"); err == nil {
				t.Error("another subsystem was opened")
			}
			c.Close()
			for _, f := range clients {
				f.Wait()
			}
			if _, err := c.OpenSubsystem(t.Context(), "sftp"); !errors.Is(err, errClosed) {
				t.Errorf("opened after Close: %v", err)
			}
		})
	}
}

func TestProgramFails(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"says why":  {"echo first >&2; echo no way >&2; exit 7", "exit status 7: no way"},
		"says what": {"printf 'Welcome to this machine\\n'; exec cat", "does not speak SFTP"},
		"ends":      {"exit 0", "exit status 0"},
		// A process that stays behind has its standard error open.
		"leaves some": {"(cat <&3) 3<&0 >/dev/null & echo gone >&2; exit 1", "exit status 1: gone"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Dial(t.Context(), Options{Open: Command([]string{"/bin/sh", "-c", c.script}, nil, quiet)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want …%s", err, c.want)
			}
		})
	}
	if _, err := Dial(t.Context(), Options{Open: Command([]string{"/not/there"}, nil, quiet)}); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
}

func TestDialEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	_, err := Dial(ctx, Options{Open: Command([]string{"/bin/sh", "-c", "exec tail -f /dev/null"}, nil, quiet)})
	if !errors.Is(err, cause) {
		t.Error(err)
	}
}

// fake is a server that greets, and then does what it is told with each packet.
func fake(t *testing.T, answer func(conn net.Conn, packet []byte)) Opener {
	t.Helper()
	return func(context.Context) (io.ReadWriteCloser, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			if _, err := readPacket(theirs); err != nil {
				return
			}
			theirs.Write([]byte{0, 0, 0, 5, typeVersion, 0, 0, 0, 3})
			for {
				p, err := readPacket(theirs)
				if err != nil {
					return
				}
				answer(theirs, p)
			}
		}()
		return ours, nil
	}
}

func TestHostileServer(t *testing.T) {
	status := func(number uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 9, 101, byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)}, 4)
	}
	for name, answer := range map[string]func(net.Conn, []byte){
		"answers twice": func(c net.Conn, p []byte) {
			n := binary.BigEndian.Uint32(p[5:])
			c.Write(status(n))
			c.Write(status(n))
		},
		"answers another": func(c net.Conn, p []byte) { c.Write(status(binary.BigEndian.Uint32(p[5:]) + 1)) },
		"endless packet":  func(c net.Conn, p []byte) { c.Write([]byte{255, 255, 255, 255, 101}) },
		"no packet":       func(c net.Conn, p []byte) { c.Write([]byte{0, 0, 0, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Dial(t.Context(), Options{Open: fake(t, answer)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f := client(t, c)
			f.Remove("x")
			select {
			case <-c.Done():
			case <-time.After(time.Minute):
				t.Fatal("it is still connected")
			}
			if err := c.Err(); !errors.Is(err, errNotSFTP) {
				t.Error(err)
			}
			f.Wait()
		})
	}
}

// TestPieces writes requests in pieces of all sizes.
func TestPieces(t *testing.T) {
	dir := t.TempDir()
	c, err := Dial(t.Context(), Options{Open: server(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for size := 1; size < 20; size++ {
		s, err := c.OpenSubsystem(t.Context(), "sftp")
		if err != nil {
			t.Fatal(err)
		}
		f, err := sftp.NewClientPipe(s, pieces{s, size})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Mkdir(fmt.Sprint(size)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if list, _ := os.ReadDir(dir); len(list) != 19 {
		t.Errorf("%d folders", len(list))
	}
}

type pieces struct {
	io.WriteCloser
	size int
}

func (p pieces) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		piece := b[:min(p.size, len(b))]
		b = b[len(piece):]
		var m int
		m, err = p.WriteCloser.Write(piece)
		n += m
	}
	return n, err
}

func TestTCPAndFiles(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	start := server(t, dir)
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		p, err := start(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		defer p.Close()
		serving.Go(func() { io.Copy(conn, p); conn.Close() })
		io.Copy(p, conn)
	})
	c, err := Dial(t.Context(), Options{Open: TCP(l.Addr().String())})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := work(client(t, c), "by tcp"); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(dir, "by tcp")); err != nil || st.Size() == 0 {
		t.Error(err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirIn, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serving.Go(func() { io.Copy(theirOut, p); theirOut.Close() })
	serving.Go(func() { io.Copy(p, theirIn); p.Close(); theirIn.Close() })
	open := Files(in, out)
	piped, err := Dial(t.Context(), Options{Open: open})
	if err != nil {
		t.Fatal(err)
	}
	if err := work(client(t, piped), "by pipe"); err != nil {
		t.Error(err)
	}
	piped.Close()
	if _, err := Dial(t.Context(), Options{Open: open}); err == nil {
		t.Error("opened twice")
	}
}
