package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"
	"testing"
)

// hostile is a stream whose server says what it likes as soon as all requests are there.
type hostile struct {
	said      *bytes.Reader
	greeting  int           // bytes that come at once
	asked     chan struct{} // closed when the rest may come
	closed    chan struct{}
	closeOnce sync.Once
}

func (h *hostile) Read(p []byte) (int, error) {
	if h.greeting > 0 {
		n, err := h.said.Read(p[:min(len(p), h.greeting)])
		h.greeting -= n
		return n, err
	}
	select {
	case <-h.asked:
		return h.said.Read(p)
	case <-h.closed:
		return 0, io.ErrClosedPipe
	}
}

func (h *hostile) Write(p []byte) (int, error) { return len(p), nil }

func (h *hostile) Close() error {
	h.closeOnce.Do(func() { close(h.closed) })
	return nil
}

// FuzzServer: whatever a server says, each session gets whole answers to what it has asked, each
// once and with its own number, and all of it ends.
func FuzzServer(f *testing.F) {
	packet := func(kind byte, number uint32, body ...byte) []byte {
		p := binary.BigEndian.AppendUint32(nil, uint32(5+len(body)))
		return append(binary.BigEndian.AppendUint32(append(p, kind), number), body...)
	}
	good := packet(typeVersion, version)
	f.Add(good, packet(101, 1, 0, 0, 0, 0))
	f.Add(good, append(packet(102, 4, 1, 2, 3), packet(103, 1, 4)...))
	f.Add(good, append(packet(101, 2), packet(101, 2)...))
	f.Add(good, packet(101, 1<<31))
	f.Add(good, []byte{0, 0, 0, 9, 101, 0, 0, 0, 3, 1})
	f.Add(good, []byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Add([]byte("SSH-2.0-OpenSSH\r\n"), []byte(nil))
	const each = 4 // requests of a session
	f.Fuzz(func(t *testing.T, greeting, answers []byte) {
		h := &hostile{said: bytes.NewReader(append(bytes.Clone(greeting), answers...)), greeting: len(greeting), asked: make(chan struct{}), closed: make(chan struct{})}
		polite := bytes.Equal(greeting, good)
		if !polite { // then what comes may be too short for a greeting
			close(h.asked)
		}
		c, err := Dial(t.Context(), Options{Open: func(context.Context) (io.ReadWriteCloser, error) { return h, nil }})
		if err != nil {
			return
		}
		defer c.Close()
		var sessions []io.ReadWriteCloser
		for i := range 2 {
			s, err := c.OpenSubsystem(t.Context(), "sftp")
			if err != nil {
				return // the stream has ended meanwhile
			}
			for n := range uint32(each) {
				s.Write(packet(17, first(i)+n))
			}
			sessions = append(sessions, s)
		}
		if polite {
			close(h.asked)
		}
		<-c.Done() // the answers have an end
		for i, s := range sessions {
			all, err := io.ReadAll(s)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[uint32]bool{}
			for len(all) > 0 {
				n := 4 + int(binary.BigEndian.Uint32(all))
				number := binary.BigEndian.Uint32(all[5:])
				if n > len(all) || seen[number] || number < first(i) || number >= first(i)+each {
					t.Fatalf("session %d got %x", i, all)
				}
				seen[number] = true
				all = all[n:]
			}
		}
	})
}

// first is the number of a session's first request.
func first(session int) uint32 { return uint32(1000 * (session + 1)) }
