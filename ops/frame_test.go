package ops

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestFrameIsASCII(t *testing.T) {
	in := map[string]string{"a": "é€😀\x00\u2028"}
	b, err := appendFrame(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b[4:] {
		if c >= 0x80 {
			t.Fatalf("not ASCII: %q", b)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(b[4:], &back); err != nil || back["a"] != in["a"] {
		t.Errorf("%q: %q %v", b, back, err)
	}
	if _, err := appendFrame(nil, strings.Repeat("x", maxToAgent)); err == nil {
		t.Error("a request that is too large is sent")
	}
}

func TestReadFrame(t *testing.T) {
	good, err := appendFrame(nil, map[string]any{"id": 3, "status": "TIMED OUT", "code": 0})
	if err != nil {
		t.Fatal(err)
	}
	f, err := readFrame(iotest.OneByteReader(bytes.NewReader(good)))
	if err != nil || f.ID != 3 || f.Status == nil || *f.Status != TimedOut || f.Code == nil {
		t.Errorf("%+v %v", f, err)
	}
	for _, bad := range [][]byte{good[:3], good[:len(good)-1], []byte("Hello, world"), {0, 0, 0, 1, 'x'}, {0, 0, 0, 16, '{', '"'}} {
		if f, err := readFrame(bytes.NewReader(bad)); err == nil || err == io.EOF {
			t.Errorf("%q: %+v %v", bad, f, err)
		}
	}
	if _, err := readFrame(bytes.NewReader(nil)); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	good, err := appendFrame(nil, map[string]any{"id": 1, "fd": 1, "lines": []string{"a"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			if _, err := readFrame(r); err != nil {
				return
			}
		}
	})
}

func FuzzVisible(f *testing.F) {
	f.Add("a\x1b[31m\xff\u202e\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := visible(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q: %q is not UTF-8", s, got)
		}
		for _, r := range got {
			if r != '\t' && (r < 0x20 || r == 0x7f || r == '\u202e') {
				t.Errorf("%q: %q has %q", s, got, r)
			}
		}
	})
}
