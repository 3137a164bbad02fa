package contract

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// forgetful is a folder whose files lose what is written into them far behind.
type forgetful struct{ OS }

type forgetfulFile struct{ File }

func (f forgetful) Open(path string, flags int, mode uint32) (File, error) {
	file, err := f.OS.Open(path, flags, mode)
	if err != nil {
		return nil, err
	}
	return forgetfulFile{file}, nil
}

func (f forgetfulFile) WriteAt(p []byte, off int64) (int, error) {
	if off >= 80_000 {
		p = make([]byte, len(p))
	}
	return f.File.WriteAt(p, off)
}

// TestReplay has a tree fail that loses writes, does the same again from the output of
// the failure, and finds the few operations that matter.
func TestReplay(t *testing.T) {
	model := func(got Tree) *Model {
		return &Model{
			Got: refusing{got}, Want: OS{t.TempDir()}, Seed: 7, Workers: 3, Steps: 500, Every: 20,
			Barrier: func(*rand.Rand, bool) error { return nil },
		}
	}
	f := model(forgetful{OS{t.TempDir()}}).run()
	if f == nil {
		t.Fatal("a tree that loses writes passes")
	}
	output := fmt.Sprintf("=== RUN\n    model.go:1: seed 7: %v\n%sFAIL\n", f.err, f.done)
	h, err := readHistory([]byte(output))
	if err != nil || h.String() != f.done.String() {
		t.Fatalf("read %d of %d operations, %v", len(h), len(f.done), err)
	}
	broken := model(forgetful{OS{t.TempDir()}})
	again := broken.again(h)
	if again == nil {
		t.Fatal("it does not fail again")
	}
	small := broken.shrink(again, time.Now().Add(time.Minute))
	if small == nil || len(small.done) > 6 || !strings.Contains(small.err.Error(), "want") && !strings.Contains(small.err.Error(), "differ") {
		t.Errorf("of %d operations were left: %v\n%s", len(again.done), small.err, small.done)
	}
	// A tree that loses nothing passes with the same.
	sound := model(OS{t.TempDir()})
	sound.Replay = filepath.Join(t.TempDir(), "output")
	if err := os.WriteFile(sound.Replay, []byte(output), 0o644); err != nil {
		t.Fatal(err)
	}
	sound.Run(t)
}
