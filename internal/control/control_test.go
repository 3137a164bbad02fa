package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// connectEnv makes the test binary a client that asks once and prints what it got.
const connectEnv = "CONTROL_TEST_CONNECT"

func TestMain(m *testing.M) {
	if path := os.Getenv(connectEnv); path != "" {
		os.Exit(connect(path))
	}
	goleak.VerifyTestMain(m)
}

func connect(path string) int {
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer conn.Close()
	fmt.Fprintln(conn, `{"op":"echo","args":"x"}`)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Print(line)
	return 0
}

// runtime gives the test an XDG_RUNTIME_DIR of its own, short enough for a socket, and a mount point.
func runtime(t *testing.T) (dir, mountpoint string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	mountpoint = filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(mountpoint, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, mountpoint
}

type handlerFunc func(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error)

func (f handlerFunc) Handle(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error) {
	return f(ctx, op, args, progress)
}

type hinted struct{ error }

func (hinted) Hint() string    { return "close them" }
func (h hinted) Unwrap() error { return h.error }

func testHandler(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error) {
	switch op {
	case "echo":
		return args, nil
	case "nothing":
		return nil, nil
	case "count":
		for i := range 3 {
			progress(map[string]int{"i": i})
		}
		return "done", nil
	case "busy":
		return nil, hinted{fmt.Errorf("unmount /m: %w", syscall.EBUSY)}
	case "unmarshalable":
		return make(chan int), nil
	case "wait":
		progress("waiting")
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, &UnknownOpError{op}
}

func listen(t *testing.T, mountpoint string, h handlerFunc) *Server {
	t.Helper()
	s, err := Listen(mountpoint, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func dial(t *testing.T, mountpoint string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCall(t *testing.T) {
	_, m := runtime(t)
	s := listen(t, m, testHandler)
	if st, err := os.Stat(s.Path()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v, want mode 0600", st.Mode(), err)
	}
	c := dial(t, m)
	var got struct{ A int }
	if err := c.Call(t.Context(), "echo", map[string]int{"A": 7}, &got, nil); err != nil || got.A != 7 {
		t.Errorf("echo: %v %v", got, err)
	}
	if err := c.Call(t.Context(), "nothing", nil, nil, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
	var steps []string
	var last string
	err := c.Call(t.Context(), "count", nil, &last, func(m json.RawMessage) { steps = append(steps, string(m)) })
	if err != nil || last != "done" || strings.Join(steps, "") != `{"i":0}{"i":1}{"i":2}` {
		t.Errorf("count: %v %q %v", steps, last, err)
	}
	err = c.Call(t.Context(), "busy", nil, nil, nil)
	var e *Error
	if !errors.Is(err, syscall.EBUSY) || !errors.As(err, &e) || e.Hint() != "close them" || !strings.Contains(err.Error(), "unmount /m") {
		t.Errorf("busy: %v %+v", err, e)
	}
	err = c.Call(t.Context(), "frobnicate", nil, nil, nil)
	if !errors.As(err, &e) || e.Hint() == "" || errors.Unwrap(e) != nil {
		t.Errorf("frobnicate: %v", err)
	}
	if err := c.Call(t.Context(), "unmarshalable", nil, nil, nil); err == nil {
		t.Error("a result that is no JSON was answered")
	}
	if err := c.Call(t.Context(), "echo", strings.Repeat("x", maxRequest), nil, nil); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("too large: %v", err)
	}
	// Errors of a call leave the connection usable.
	if err := c.Call(t.Context(), "echo", 1, nil, nil); err != nil {
		t.Errorf("after errors: %v", err)
	}
}

func TestManyClients(t *testing.T) {
	_, m := runtime(t)
	listen(t, m, testHandler)
	var wg sync.WaitGroup
	for i := range 2 * maxClients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := Dial(t.Context(), m)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var got int
			for range 5 {
				if err := c.Call(t.Context(), "echo", i, &got, nil); err != nil || got != i {
					t.Errorf("client %d: got %d, %v", i, got, err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestClientLeaves(t *testing.T) {
	for name, leave := range map[string]func(*Client, context.CancelFunc){
		"cancel": func(_ *Client, cancel context.CancelFunc) { cancel() },
		"close":  func(c *Client, _ context.CancelFunc) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			_, m := runtime(t)
			cancelled := make(chan error, 1)
			listen(t, m, func(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error) {
				_, err := testHandler(ctx, op, args, progress)
				cancelled <- err
				return nil, err
			})
			c := dial(t, m)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := c.Call(ctx, "wait", nil, nil, func(json.RawMessage) { leave(c, cancel) })
			if err == nil || name == "cancel" && !errors.Is(err, context.Canceled) {
				t.Errorf("call: %v", err)
			}
			if err := <-cancelled; !errors.Is(err, context.Canceled) {
				t.Errorf("handler: %v", err)
			}
			if err := c.Call(t.Context(), "echo", 1, nil, nil); err == nil {
				t.Error("a broken client made a call")
			}
		})
	}
}

func TestServerCloses(t *testing.T) {
	dir, m := runtime(t)
	s := listen(t, m, testHandler)
	c := dial(t, m)
	closed := make(chan error, 1)
	err := c.Call(t.Context(), "wait", nil, nil, func(json.RawMessage) { go func() { closed <- s.Close() }() })
	if err == nil {
		t.Error("a call outlived its server")
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "bundlefs", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Dial(t.Context(), m); !errors.Is(err, ErrNotMounted) || !strings.Contains(err.Error(), m) {
		t.Errorf("dial: %v, want ErrNotMounted naming %s", err, m)
	}
}

func TestListenTwice(t *testing.T) {
	_, m := runtime(t)
	s := listen(t, m, testHandler)
	if _, err := Listen(m, handlerFunc(testHandler)); !errors.Is(err, ErrMounted) || !strings.Contains(err.Error(), m) {
		t.Errorf("second listen: %v, want ErrMounted", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a killed process leaves: the socket and the lock file, without the lock.
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: s.Path()}), syscall.Close(fd),
		os.WriteFile(strings.TrimSuffix(s.Path(), ".sock")+".lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), m); !errors.Is(err, ErrNotMounted) {
		t.Errorf("dial of a dead socket: %v", err)
	}
	listen(t, m, testHandler)
	if err := dial(t, m).Call(t.Context(), "nothing", nil, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestListenRace(t *testing.T) {
	_, m := runtime(t)
	var wg sync.WaitGroup
	got := make(chan *Server, 20)
	for range cap(got) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := Listen(m, handlerFunc(testHandler))
			if err == nil {
				got <- s
			} else if !errors.Is(err, ErrMounted) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if len(got) != 1 {
		t.Errorf("%d listeners at once", len(got))
	}
	for range len(got) {
		(<-got).Close()
	}
}

func TestForeignRequests(t *testing.T) {
	for name, c := range map[string]struct{ send, want string }{
		"no JSON":     {"hello\n", "malformed"},
		"two at once": {`{"op":"wait"}` + "\n" + `{"op":"wait"}` + "\n", "before the answer"},
		"too long":    {`{"op":"` + strings.Repeat("x", maxRequest) + `"}` + "\n", "more than"},
		"wrong type":  {`{"op":7}` + "\n", "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, m := runtime(t)
			s := listen(t, m, testHandler)
			conn, err := net.Dial("unix", s.Path())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			conn.Write([]byte(c.send))
			var got strings.Builder
			for in := bufio.NewScanner(conn); in.Scan(); {
				got.WriteString(in.Text())
			}
			if !strings.Contains(got.String(), c.want) {
				t.Errorf("got %q, want …%s…", got.String(), c.want)
			}
		})
	}
}

// TestForeignUser opens folder and socket to everybody and has another user ask.
func TestForeignUser(t *testing.T) {
	dir, m := runtime(t)
	s := listen(t, m, testHandler)
	for path, mode := range map[string]os.FileMode{dir: 0o711, filepath.Dir(s.Path()): 0o711, s.Path(): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	ask := exec.Command("/proc/self/exe")
	ask.Env = append(os.Environ(), connectEnv+"="+s.Path())
	out, err := ask.CombinedOutput()
	if err != nil || string(out) != `{"result":"x"}`+"\n" {
		t.Fatalf("own user: %s %v", out, err)
	}
	ask = exec.Command("/proc/self/exe")
	ask.Env = append(os.Environ(), connectEnv+"="+s.Path())
	if os.Getuid() == 0 {
		ask.Dir = "/"
		ask.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else {
		// Without root nobody else can be made to ask: the server takes another for its owner.
		s.Close()
		if s, err = listenAs(m, handlerFunc(testHandler), uint32(os.Getuid())+1); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ask.Env = append(os.Environ(), connectEnv+"="+s.Path())
	}
	out, err = ask.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "may not control") {
		t.Errorf("another user got: %s %v", out, err)
	}
}
