package sftpwire

import (
	"bytes"
	"io"
	"testing"
)

// recorded is a server that has said everything before it was asked.
type recorded struct{ *bytes.Reader }

func (recorded) Write(p []byte) (int, error) { return len(p), nil }
func (recorded) Close() error                { return nil }

var _ io.ReadWriteCloser = recorded{}

func FuzzVersion(f *testing.F) {
	f.Add(version()[5:])
	f.Add(version(ExtLimits, "1", ExtLSetstat, "1")[5:])
	f.Add([]byte{0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		ext, err := parseVersion(b)
		total := 0
		for name, data := range ext {
			total += len(name) + len(data)
		}
		if err == nil && total > len(b) {
			t.Fatalf("%d bytes of extensions out of %d", total, len(b))
		}
	})
}

// FuzzReply has a server say anything at all in reply to two requests.
func FuzzReply(f *testing.F) {
	f.Add(append(version(ExtLimits, "1"), packet(typeReply, u32(1), make([]byte, 32))...))
	f.Add(append(version(), statusOf(1, 4, "Failure")...))
	f.Add(append(version(), 0, 0, 0, 1, typeStatus))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := New(t.Context(), recorded{bytes.NewReader(b)})
		if err != nil {
			return
		}
		defer s.Close()
		_, _ = s.Limits(t.Context()) // ends with the recording at the latest
		_ = s.Remove(t.Context(), "x")
		_, _ = s.ReadDir(t.Context(), "x", 10)
	})
}

// FuzzAnswers has a server say anything at all in reply to one question of each kind.
func FuzzAnswers(f *testing.F) {
	f.Add(append(version(), packet(typeHandle, u32(1), str("h"))...))
	f.Add(append(version(), packet(typeHandle, u32(1), u32(1<<31))...))
	f.Add(append(version(ExtStatVFS, "2"), packet(typeReply, u32(1), make([]byte, 88))...))
	f.Add(append(version(), packet(typeName, u32(1), u32(1), str("target"), str(""), u32(0))...))
	f.Add(append(version(), packet(103, u32(1), str("data"))...))
	f.Add(append(version(), packet(105, u32(1), u32(1<<31), u32(1<<31))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, ask := range []func(s *Session){
			func(s *Session) { _, _ = s.SendOpen("x", FlagRead, Attrs{}).Wait(t.Context()) },
			func(s *Session) {
				if data, err := s.SendRead("h", 0, 4).Wait(t.Context()); err == nil && len(data) > 4 {
					t.Errorf("%d bytes in 4", len(data))
				}
			},
			func(s *Session) { _, _ = s.Lstat("x").Wait(t.Context()) },
			func(s *Session) { _, _ = s.Fstat("h").Wait(t.Context()) },
			func(s *Session) { _, _ = s.ReadLink("x").Wait(t.Context()) },
			func(s *Session) { _, _ = s.RealPath("x").Wait(t.Context()) },
			func(s *Session) { _, _ = s.StatVFS(t.Context(), "x") },
		} {
			s, err := New(t.Context(), recorded{bytes.NewReader(b)})
			if err != nil {
				return
			}
			ask(s)
			s.Close()
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add(packet(typeName, u32(1), str("a"), str("long"), u32(attrSize), make([]byte, 8))[5:])
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := parseNames(reply{typ: typeName, body: b})
		if err == nil && 12*len(names) > len(b) {
			t.Fatalf("%d names out of %d bytes", len(names), len(b))
		}
	})
}
