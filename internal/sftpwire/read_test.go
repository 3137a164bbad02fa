package sftpwire

import (
	"io"
	"testing"
)

func TestReadReplies(t *testing.T) {
	for name, c := range map[string]struct {
		reply func(id uint32) []byte
		want  string // "" for an error
		err   error  // nil for any
	}{
		"all":          {reply: func(id uint32) []byte { return packet(typeData, u32(id), str("12345678")) }, want: "12345678"},
		"fewer":        {reply: func(id uint32) []byte { return packet(typeData, u32(id), str("123")) }, want: "123"},
		"end":          {reply: func(id uint32) []byte { return statusOf(id, statusEOF, "End of file") }, err: io.EOF},
		"none":         {reply: func(id uint32) []byte { return packet(typeData, u32(id), str("")) }},
		"more":         {reply: func(id uint32) []byte { return packet(typeData, u32(id), str("123456789")) }},
		"cut short":    {reply: func(id uint32) []byte { return packet(typeData, u32(id), u32(8), []byte("1234567")) }},
		"no length":    {reply: func(id uint32) []byte { return packet(typeData, u32(id)) }},
		"refused":      {reply: func(id uint32) []byte { return statusOf(id, 4, "Failure") }},
		"success":      {reply: func(id uint32) []byte { return statusOf(id, 0, "") }},
		"another type": {reply: func(id uint32) []byte { return packet(typeHandle, u32(id), str("h")) }},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(t.Context(), fakeServer(t, version(), func(id uint32, _ byte, _ []byte) []byte { return c.reply(id) }))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			got, err := s.SendRead("h", 0, 8).Wait(t.Context())
			if string(got) != c.want || (err == nil) != (c.want != "") || c.err != nil && err != c.err {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
