package progress

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"bundlefs/internal/testterm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBarOnATerminal(t *testing.T) {
	keyboard, tty := testterm.Open(t)
	if !IsTerminal(tty) {
		t.Fatal("not taken for a terminal")
	}
	b := New(tty)
	shown := Barrier{What: "n1: sync"}
	b.Show(shown.Left(3, 4<<20))
	testterm.ReadUntil(t, keyboard, "n1: sync", "0.0 b / 4.0 MiB, 3 files to go")
	if !b.Above("a message\n") {
		t.Error("no bar")
	}
	b.Show(shown.Left(1, 1<<20))
	testterm.ReadUntil(t, keyboard, "a message", "3.0 MiB / 4.0 MiB, 1 files to go")
	b.Show(shown.Left(0, 0))
	if b.Above("x") {
		t.Error("there is a bar when all is done")
	}
	b.Show(State{What: "copy", Done: 1, Total: 2, Unit: "files"})
	b.Show(State{What: "verify", Done: 1, Total: 5, Unit: "files"})
	text := testterm.ReadUntil(t, keyboard, "verify", "1 / 5 files")
	if _, text, _ := strings.Cut(text, "copy"); strings.Contains(text, "to go") {
		t.Errorf("the note of another bar: %q", text)
	}
	b.End()
	b.End()
}

func TestNothingElsewhere(t *testing.T) {
	var out bytes.Buffer
	b := New(&out)
	b.Show(State{What: "copy", Done: 1, Total: 2, Unit: "bytes"})
	if b.Above("x") {
		t.Error("a bar without a terminal")
	}
	b.End()
	if out.Len() > 0 {
		t.Errorf("written: %q", out.String())
	}
}

func TestBarrier(t *testing.T) {
	b := Barrier{What: "sync"}
	for _, c := range []struct {
		files, bytes int64
		want         State
	}{
		{2, 0, State{What: "sync", Total: 2, Unit: "files"}},
		{3, 0, State{What: "sync", Total: 3, Unit: "files"}},
		{1, 0, State{What: "sync", Done: 2, Total: 3, Unit: "files"}},
		{2, 10, State{What: "sync", Total: 10, Unit: "bytes", Note: "2 files to go"}},
		{1, 4, State{What: "sync", Done: 6, Total: 10, Unit: "bytes", Note: "1 files to go"}},
		{0, 0, State{What: "sync", Done: 10, Total: 10, Unit: "bytes", Note: "0 files to go"}},
	} {
		if got := b.Left(c.files, c.bytes); got != c.want {
			t.Errorf("%d files, %d bytes: %+v, want %+v", c.files, c.bytes, got, c.want)
		}
	}
}
