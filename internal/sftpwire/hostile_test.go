package sftpwire

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// ok answers each request with success.
func ok(id uint32, typ byte, body []byte) []byte { return statusOf(id, 0, "") }

func TestHandshakeRefused(t *testing.T) {
	for name, hello := range map[string][]byte{
		"nothing":            nil,
		"cut short":          {0, 0, 0, 9, typeVersion, 0},
		"empty packet":       {0, 0, 0, 0},
		"huge packet":        {0xff, 0xff, 0xff, 0xff, typeVersion, 0, 0, 0, 3},
		"another type":       packet(typeStatus, u32(3)),
		"no version":         packet(typeVersion),
		"version 2":          packet(typeVersion, u32(2)),
		"extension cut":      packet(typeVersion, u32(3), str(ExtLimits), []byte{0, 0, 0, 9, 'x'}),
		"extension alone":    packet(typeVersion, u32(3), str(ExtLimits)),
		"extension too long": packet(typeVersion, u32(3), u32(1<<31), []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			ch := fakeServer(t, hello, ok)
			ctx, cancel := context.WithCancel(t.Context())
			if name == "nothing" || name == "cut short" {
				cancel() // what is missing never comes: the caller gives up
			}
			defer cancel()
			if s, err := New(ctx, ch); err == nil {
				s.Close()
				t.Fatal("greeted")
			}
		})
	}
}

func TestRepliesRefused(t *testing.T) {
	for name, c := range map[string]struct {
		reply  func(id uint32, typ byte, body []byte) []byte
		closed bool // the session must have ended
	}{
		"cut short":        {func(id uint32, _ byte, _ []byte) []byte { return packet(typeStatus, []byte{0, 1}) }, true},
		"no request":       {func(id uint32, _ byte, _ []byte) []byte { return statusOf(id+1, 0, "") }, true},
		"twice":            {func(id uint32, _ byte, _ []byte) []byte { return slices.Repeat(statusOf(id, 4, ""), 2) }, true},
		"huge":             {func(id uint32, _ byte, _ []byte) []byte { return []byte{0x7f, 0xff, 0xff, 0xff, typeStatus} }, true},
		"empty":            {func(id uint32, _ byte, _ []byte) []byte { return []byte{0, 0, 0, 0} }, true},
		"another type":     {func(id uint32, _ byte, _ []byte) []byte { return packet(typeReply, u32(id), u32(0)) }, false},
		"status without":   {func(id uint32, _ byte, _ []byte) []byte { return packet(typeStatus, u32(id)) }, false},
		"status cut short": {func(id uint32, _ byte, _ []byte) []byte { return packet(typeStatus, u32(id), []byte{0, 0}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(t.Context(), fakeServer(t, version(), c.reply))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Remove(t.Context(), "x"); err == nil {
				t.Fatal("took the reply")
			}
			if c.closed {
				<-s.Done()
				if err := s.Remove(t.Context(), "x"); !errors.Is(err, ErrClosed) {
					t.Fatalf("afterwards: %v, want ErrClosed", err)
				}
			}
		})
	}
}

func TestLimitsRefused(t *testing.T) {
	for name, reply := range map[string]func(id uint32) []byte{
		"too few":  func(id uint32) []byte { return packet(typeReply, u32(id), make([]byte, 31)) },
		"a status": func(id uint32) []byte { return statusOf(id, 0, "") },
		"refused":  func(id uint32) []byte { return statusOf(id, 8, "no") },
	} {
		t.Run(name, func(t *testing.T) {
			ch := fakeServer(t, version(ExtLimits, "1"), func(id uint32, _ byte, _ []byte) []byte { return reply(id) })
			s, err := New(t.Context(), ch)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if l, err := s.Limits(t.Context()); err == nil {
				t.Fatalf("took %+v", l)
			}
		})
	}
}

func TestStatusError(t *testing.T) {
	for code, want := range map[uint32]error{2: os.ErrNotExist, 3: os.ErrPermission} {
		ch := fakeServer(t, version(), func(id uint32, _ byte, _ []byte) []byte { return statusOf(id, code, "said") })
		s, err := New(t.Context(), ch)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Remove(t.Context(), "x")
		var status *StatusError
		if !errors.Is(err, want) || !errors.As(err, &status) || status.Code != code || !strings.Contains(err.Error(), "said") {
			t.Errorf("code %d: %v, want %v", code, err, want)
		}
		s.Close()
	}
}

// A reply that nobody waits for any more must not stop the others.
func TestCallerLeaves(t *testing.T) {
	release := make(chan struct{})
	ch := fakeServer(t, version(), func(id uint32, _ byte, body []byte) []byte {
		if strings.Contains(string(body), "slow") {
			<-release
		}
		return statusOf(id, 0, "")
	})
	s, err := New(t.Context(), ch)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Remove(ctx, "slow"); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want canceled", err)
	}
	close(release)
	if err := s.Remove(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
}

// Close ends what waits for a server that never answers.
func TestCloseEndsRequests(t *testing.T) {
	asked := make(chan struct{})
	ch := fakeServer(t, version(), func(uint32, byte, []byte) []byte { close(asked); return nil })
	s, err := New(t.Context(), ch)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Remove(context.Background(), "x") }()
	<-asked
	s.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Fatalf("%v, want ErrClosed", err)
	}
}

// listing answers as a folder with a handle does, each READDIR by what reply returns.
func listing(t *testing.T, reply func(id uint32) []byte) *Session {
	t.Helper()
	ch := fakeServer(t, version(), func(id uint32, typ byte, _ []byte) []byte {
		switch typ {
		case typeOpendir:
			return packet(typeHandle, u32(id), str("h"))
		case typeReaddir:
			return reply(id)
		}
		return statusOf(id, 0, "")
	})
	s, err := New(t.Context(), ch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestListingRefused(t *testing.T) {
	for name, reply := range map[string]func(id uint32) []byte{
		"no names":       func(id uint32) []byte { return packet(typeName, u32(id), u32(0)) },
		"no count":       func(id uint32) []byte { return packet(typeName, u32(id)) },
		"fewer names":    func(id uint32) []byte { return packet(typeName, u32(id), u32(1<<32-1), str("a"), str(""), u32(0)) },
		"name cut short": func(id uint32) []byte { return packet(typeName, u32(id), u32(1), u32(100), []byte("a")) },
		"attributes cut short": func(id uint32) []byte {
			return packet(typeName, u32(id), u32(1), str("a"), str(""), u32(attrSize|attrACModTime), make([]byte, 15))
		},
		"extensions without end": func(id uint32) []byte {
			return packet(typeName, u32(id), u32(1), str("a"), str(""), u32(attrExtended), u32(1<<31))
		},
		"another type":       func(id uint32) []byte { return packet(typeHandle, u32(id), str("h")) },
		"success":            func(id uint32) []byte { return statusOf(id, 0, "") },
		"refused":            func(id uint32) []byte { return statusOf(id, 4, "Failure") },
		"without end":        func(id uint32) []byte { return packet(typeName, u32(id), u32(1), str("a"), str(""), u32(0)) },
		"itself without end": func(id uint32) []byte { return packet(typeName, u32(id), u32(1), str("."), str(""), u32(0)) },
		"long names": func(id uint32) []byte {
			return packet(typeName, u32(id), u32(1), str(strings.Repeat("a", 100<<10)), str(""), u32(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			names, err := listing(t, reply).ReadDir(t.Context(), "d", 1000)
			if err == nil {
				t.Fatalf("took %d names", len(names))
			}
			if tooLarge := strings.HasSuffix(name, "without end") && !strings.HasPrefix(name, "extensions") || name == "long names"; errors.Is(err, ErrTooLarge) != tooLarge {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestListing(t *testing.T) {
	calls := 0
	names, err := listing(t, func(id uint32) []byte {
		if calls++; calls > 3 {
			return statusOf(id, statusEOF, "End of file")
		}
		name := str(strings.Repeat("n", calls))
		all := u32(attrSize | attrUIDGID | attrPermissions | attrACModTime | attrExtended)
		return packet(typeName, u32(id), u32(2), str("."), str(""), u32(0), name, str("-rw-"), all,
			u32(0), u32(7), u32(1000), u32(100), u32(0o100644), u32(11), u32(12), u32(1), str("x@y"), str("z"))
	}).ReadDir(t.Context(), "d", 3)
	want := Stat{Size: 7, UID: 1000, GID: 100, Permissions: 0o100644, Atime: 11, Mtime: 12}
	if err != nil || len(names) != 3 || names[2] != (Name{"nnn", want}) {
		t.Errorf("%+v, %v", names, err)
	}
}
