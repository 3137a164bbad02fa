package extent

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
)

// model is the plain truth a Set is compared with: one bool a byte.
type model [256]bool

func (m *model) set(off, end int64, v bool) {
	for i := off; i < end; i++ {
		m[i] = v
	}
}

// runs yields the runs of bytes inside [off, end) which are v.
func (m *model) runs(off, end int64, v bool) []Extent {
	var out []Extent
	for i := off; i < end; i++ {
		if m[i] != v {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End == i {
			out[n-1].End++
		} else {
			out = append(out, Extent{i, i + 1})
		}
	}
	return out
}

// compare checks everything that a Set tells against the model, with [off, end)
// as the range to ask for.
func compare(s *Set, m *model, off, end int64) error {
	all := m.runs(0, int64(len(m)), true)
	if got := slices.Collect(s.All()); !slices.Equal(got, all) {
		return fmt.Errorf("All: got %v, want %v", got, all)
	}
	var bytes, last int64
	for _, e := range all {
		bytes += e.Len()
		last = e.End
	}
	first, ok := s.First()
	switch {
	case s.Bytes() != bytes:
		return fmt.Errorf("Bytes: got %d, want %d", s.Bytes(), bytes)
	case s.End() != last:
		return fmt.Errorf("End: got %d, want %d", s.End(), last)
	case s.Empty() != (len(all) == 0) || s.Len() != len(all):
		return fmt.Errorf("Empty: got %v, Len: got %d, want %d", s.Empty(), s.Len(), len(all))
	case ok != (len(all) > 0) || ok && first != all[0]:
		return fmt.Errorf("First: got %v, %v", first, ok)
	}
	gaps := m.runs(off, end, false)
	if got := slices.Collect(s.Gaps(off, end)); !slices.Equal(got, gaps) {
		return fmt.Errorf("Gaps(%d, %d): got %v, want %v", off, end, got, gaps)
	}
	if got, want := slices.Collect(s.Within(off, end)), m.runs(off, end, true); !slices.Equal(got, want) {
		return fmt.Errorf("Within(%d, %d): got %v, want %v", off, end, got, want)
	}
	if got := s.Covers(off, end); got != (len(gaps) == 0) {
		return fmt.Errorf("Covers(%d, %d): got %v", off, end, got)
	}
	return nil
}

// run does what the script says, three bytes a step, on a Set and on the model.
func run(script []byte) error {
	var s Set
	var m model
	for step := 0; len(script) >= 3; step++ {
		op, off, end := script[0], int64(script[1]), int64(script[2])
		script = script[3:]
		old, was := s.Clone(), m
		switch op % 6 {
		case 0, 1:
			s.Add(off, end)
			m.set(off, end, true)
		case 2:
			s.Remove(off, end)
			m.set(off, end, false)
		case 3:
			s.Truncate(off)
			m.set(off, int64(len(m)), false)
		case 4: // a short append behind the end
			from := s.End()
			to := min(from+end%8, int64(len(m)))
			s.Add(from, to)
			m.set(from, to, true)
		case 5:
			if op == 255 {
				s.Clear()
				m = model{}
			} else { // a short range
				end = min(off+end%8, int64(len(m)))
				s.Add(off, end)
				m.set(off, end, true)
			}
		}
		if err := compare(&s, &m, min(off, end), max(off, end)); err != nil {
			return fmt.Errorf("step %d (op %d, %d, %d) on %v: %w", step, op%6, off, end, slices.Collect(old.All()), err)
		}
		if err := compare(&old, &was, end, end); err != nil {
			return fmt.Errorf("step %d changed a clone: %w", step, err)
		}
	}
	return nil
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(400) {
		rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
		script := make([]byte, 3*200)
		rnd.Read(script)
		if err := run(script); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 4, 8, 2, 3, 5, 3, 4, 0})
	f.Add([]byte{4, 0, 3, 4, 0, 3, 5, 20, 4, 5, 30, 4, 1, 22, 31, 255, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 3*500 {
			return
		}
		if err := run(script); err != nil {
			t.Fatal(err)
		}
	})
}

func TestIteratorsStop(t *testing.T) {
	var s Set
	s.Add(0, 2)
	s.Add(4, 6)
	s.Add(8, 10)
	for name, seq := range map[string]iter.Seq[Extent]{
		"All": s.All(), "Within": s.Within(0, 10), "Gaps": s.Gaps(0, 20),
	} {
		n := 0
		for range seq {
			n++
			break
		}
		if n != 1 {
			t.Errorf("%s went on after break: %d", name, n)
		}
	}
}

func TestEmptyRanges(t *testing.T) {
	var s Set
	s.Add(5, 5)
	s.Add(9, 3)
	s.Remove(0, 100)
	s.Truncate(0)
	if !s.Empty() || s.Bytes() != 0 {
		t.Fatalf("not empty: %v", slices.Collect(s.All()))
	}
	if !s.Covers(3, 3) || s.Covers(3, 4) {
		t.Fatal("Covers of an empty set")
	}
}

func TestSequentialAddDoesNotAllocate(t *testing.T) {
	var s Set
	s.Add(0, 1)
	at := int64(1)
	if n := testing.AllocsPerRun(1000, func() { s.Add(at, at+4096); at += 4096 }); n != 0 {
		t.Fatalf("%v allocations for each Add", n)
	}
	if s.Len() != 1 || s.Bytes() != at {
		t.Fatalf("%d extents, %d bytes", s.Len(), s.Bytes())
	}
}

func BenchmarkAddSequential(b *testing.B) {
	var s Set
	for i := int64(0); b.Loop(); i++ {
		s.Add(i*4096, (i+1)*4096)
	}
}

func BenchmarkAddScattered(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var s Set
	for b.Loop() {
		off := rnd.Int64N(1<<20) * 4096
		s.Add(off, off+2048)
		if s.Len() > 10000 {
			s.Clear()
		}
	}
}
