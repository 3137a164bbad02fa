package testnode

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serve runs f for each connection to a new address, and waits for all at the end of the test.
func serve(t testing.TB, f func(*net.TCPConn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// dial connects, with a limit on how long the test can hang.
func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// exchange sends a message and waits for it to come back.
func exchange(t testing.TB, c net.Conn, message string) {
	t.Helper()
	if _, err := io.WriteString(c, message); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != message {
		t.Fatalf("got %q, %v, want %q", got, err, message)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

func TestLinkKeepsEveryByte(t *testing.T) {
	for name, set := range map[string]func(*Link){
		"plain": func(*Link) {},
		"delay": func(l *Link) { l.SetRTT(7 * time.Millisecond) },
		"rate":  func(l *Link) { l.SetBandwidth(40 << 20) },
		"both":  func(l *Link) { l.SetRTT(3 * time.Millisecond); l.SetBandwidth(40 << 20) },
		"changes": func(l *Link) {
			l.AfterUp(1<<20, func() { l.SetRTT(9 * time.Millisecond) })
			l.AfterUp(5<<20, func() { l.SetRTT(0) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLink(t, serve(t, echo))
			set(l)
			c := dial(t, l.Addr())
			data := random(3<<20 + 12345)
			var sending sync.WaitGroup
			sending.Go(func() {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+rand.IntN(1<<(4+rand.IntN(16))))
					if _, err := c.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				_ = c.CloseWrite()
			})
			got, err := io.ReadAll(c)
			sending.Wait()
			if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("got %d bytes of %d, equal: %v, %v", len(got), len(data), bytes.Equal(got, data), err)
			}
			if n := l.Counters(); n.Up != int64(len(data)) || n.Down != int64(len(data)) || n.Connections != 1 {
				t.Errorf("counted %+v", n)
			}
		})
	}
}

func TestLinkDelays(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	c := dial(t, l.Addr())
	exchange(t, c, "warm")
	l.SetRTT(20 * time.Millisecond)
	for range 5 {
		from := time.Now()
		exchange(t, c, "ping")
		if took := time.Since(from); took < 20*time.Millisecond {
			t.Errorf("a round trip took %v", took)
		}
	}
	from := time.Now()
	exchange(t, dial(t, l.Addr()), "first")
	if took := time.Since(from); took < 40*time.Millisecond {
		t.Errorf("connecting and a round trip took %v", took)
	}
}

func TestLinkCountsRoundTrips(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	for i, n := range []int64{5, 2} {
		c := dial(t, l.Addr())
		for range n {
			exchange(t, c, "ping")
		}
		if got := l.Counters().RoundTrips; len(got) != i+1 || got[i] != n {
			t.Errorf("counted %v", got)
		}
		c.Close()
	}
}

func TestLinkLimitsTheRate(t *testing.T) {
	const rate, size, each = 4 << 20, 1 << 20, 2
	l := NewLink(t, serve(t, echo))
	l.SetBandwidth(rate)
	from := time.Now()
	var sending sync.WaitGroup
	for range each { // the rate is the link's, not a connection's
		c := dial(t, l.Addr())
		sending.Go(func() {
			_, _ = c.Write(make([]byte, size))
			_ = c.CloseWrite()
		})
		sending.Go(func() { _, _ = io.Copy(io.Discard, c) })
	}
	sending.Wait()
	if took, least := time.Since(from), time.Second*each*size/rate; took < least {
		t.Errorf("%d bytes took %v, at %d bytes/s at least %v", each*size, took, rate, least)
	}
}

func TestLinkHalfClose(t *testing.T) {
	l := NewLink(t, serve(t, func(c *net.TCPConn) {
		got, _ := io.ReadAll(c) // needs the end to answer
		_, _ = c.Write(append(got, '!'))
	}))
	c := dial(t, l.Addr())
	_, _ = io.WriteString(c, "all")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "all!" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLinkReset(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	c := dial(t, l.Addr())
	exchange(t, c, "before")
	l.Reset()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	exchange(t, dial(t, l.Addr()), "anew")
}

func TestLinkPassesResetOn(t *testing.T) {
	seen := make(chan error, 1)
	l := NewLink(t, serve(t, func(c *net.TCPConn) {
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "last" {
			t.Errorf("got %q, %v", got, err)
		}
		_, err := c.Read(got)
		seen <- err
	}))
	l.SetRTT(10 * time.Millisecond)
	c := dial(t, l.Addr())
	_, _ = io.WriteString(c, "last")
	if !await(func() bool { return l.Counters().Up == 4 }) {
		t.Error("not delivered")
	}
	_ = c.SetLinger(0)
	c.Close()
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other side saw %v", err)
	}
}

func TestLinkDrop(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	lossy, quiet := dial(t, l.Addr()), dial(t, l.Addr())
	exchange(t, lossy, "before")
	exchange(t, quiet, "before")
	l.Drop()
	if _, err := io.WriteString(lossy, "vanishes"); err != nil {
		t.Fatal(err)
	}
	_ = lossy.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := lossy.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("read %d bytes over a cut, %v", n, err)
	}
	fresh := dial(t, l.Addr())
	_, _ = io.WriteString(fresh, "early")
	if !await(func() bool { return anyLossy(l) }) {
		t.Error("nothing was lost")
	}
	l.Heal()
	_ = lossy.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := lossy.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection with a hole: %v", err)
	}
	exchange(t, quiet, "after")
	got := make([]byte, 5)
	if _, err := io.ReadFull(fresh, got); err != nil || string(got) != "early" {
		t.Errorf("a connection made during the cut: %q, %v", got, err)
	}
	if n := l.Counters().Up; n != int64(len("before")*2+len("after")+len("early")) {
		t.Errorf("%d bytes went up", n)
	}
}

func TestLinkDropHidesTheEnd(t *testing.T) {
	seen := make(chan error, 1)
	l := NewLink(t, serve(t, func(c *net.TCPConn) {
		_, err := io.Copy(c, c)
		seen <- err
	}))
	c := dial(t, l.Addr())
	exchange(t, c, "before")
	l.Drop()
	c.Close()
	if !await(func() bool { return anyLossy(l) }) {
		t.Error("nothing was lost")
	}
	select {
	case err := <-seen:
		t.Errorf("the end crossed the cut: %v", err)
	default:
	}
	l.Heal()
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the cut: %v", err)
	}
}

func TestLinkPauseLosesNothing(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	c := dial(t, l.Addr())
	exchange(t, c, "before")
	l.Pause()
	_, _ = io.WriteString(c, "held")
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("read %d bytes over a stalled link, %v", n, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	l.Resume()
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "held" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLinkRefuse(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	c := dial(t, l.Addr())
	exchange(t, c, "before")
	l.Refuse()
	if _, err := net.Dial("tcp", l.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a link that refuses: %v", err)
	}
	exchange(t, c, "goes on")
	l.Heal()
	exchange(t, dial(t, l.Addr()), "again")
}

func TestLinkAfterUp(t *testing.T) {
	l := NewLink(t, serve(t, echo))
	c := dial(t, l.Addr())
	at := make(chan int64, 1)
	l.AfterUp(1000, func() {
		at <- l.Counters().Up
		l.Reset()
	})
	_, _ = c.Write(make([]byte, 5000))
	if n := <-at; n != 1000 {
		t.Errorf("called after %d bytes", n)
	}
	// What came back before the reset may be read before it.
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the reset: %v", err)
	}
	exchange(t, dial(t, l.Addr()), "anew")
}

func TestLinkToNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	l := NewLink(t, listener.Addr().String())
	c, err := net.Dial("tcp", l.Addr())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestNodeThroughLink(t *testing.T) {
	n := Start(t)
	l := NewLink(t, n.Addr)
	l.SetRTT(2 * time.Millisecond)
	if g := n.TargetVia(l); g.Port != l.Port() {
		t.Errorf("port is %d, want %d", g.Port, l.Port())
	}
	c, err := connect(t, n, l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	run(t, c, "true")
	out, err := exec.Command("ssh", "-F", n.SSHConfigVia(l), "node", "echo there").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "there" {
		t.Errorf("ssh: %q, %v", out, err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func anyLossy(l *Link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.lossy() {
			return true
		}
	}
	return false
}

func BenchmarkLink(b *testing.B) {
	for name, rtt := range map[string]time.Duration{"direct": -1, "0": 0, "50ms": 50 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			got := make(chan int64)
			addr := serve(b, func(c *net.TCPConn) {
				n, _ := io.Copy(io.Discard, c)
				got <- n
			})
			if rtt >= 0 {
				l := NewLink(b, addr)
				l.SetRTT(rtt)
				addr = l.Addr()
			}
			const block = 1 << 20
			b.SetBytes(block)
			c := dial(b, addr)
			buf := make([]byte, block)
			b.ResetTimer()
			for range b.N {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			if n := <-got; n != int64(b.N)*block {
				b.Fatalf("got %d bytes", n)
			}
		})
	}
}

func BenchmarkLinkRoundTrip(b *testing.B) {
	for name, rtt := range map[string]time.Duration{"direct": -1, "0": 0, "10ms": 10 * time.Millisecond, "50ms": 50 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			addr := serve(b, echo)
			if rtt >= 0 {
				l := NewLink(b, addr)
				l.SetRTT(rtt)
				addr = l.Addr()
			}
			c := dial(b, addr)
			exchange(b, c, "warm")
			b.ResetTimer()
			for range b.N {
				exchange(b, c, "ping")
			}
		})
	}
}
