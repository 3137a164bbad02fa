package vfs

import "math/bits"

const (
	slotLeast = 4 << 10
	slotMost  = 256 << 10
	slotSizes = 7 // 4 KiB, 8 KiB … 256 KiB
)

// slots hands out parts of a file, in sizes that are powers of two: a part that is
// given back becomes one with its other half when that is free, too.
type slots struct {
	end, most int64 // how far the file was used, and how far it may be
	free      [slotSizes]map[int64]struct{}
}

// slotSize is the size of the slot for n bytes, as an index of slots.free.
func slotSize(n int) int { return bits.Len(uint(max(n, slotLeast)-1)) - bits.Len(uint(slotLeast-1)) }

// take returns where there is room for n bytes, which are slotMost at the most.
func (s *slots) take(n int) (at int64, ok bool) {
	want := slotSize(n)
	size := want
	for size < slotSizes && len(s.free[size]) == 0 {
		size++
	}
	if size == slotSizes {
		if s.end+slotMost > s.most {
			return 0, false
		}
		size--
		at = s.end
		s.end += slotMost
	} else {
		for at = range s.free[size] {
			break
		}
		delete(s.free[size], at)
	}
	for ; size > want; size-- {
		s.put(size-1, at+slotLeast<<(size-1))
	}
	return at, true
}

// giveBack gives back what was taken for n bytes.
func (s *slots) giveBack(at int64, n int) {
	size := slotSize(n)
	for ; size < slotSizes-1; size++ {
		half := at ^ slotLeast<<size
		if _, ok := s.free[size][half]; !ok {
			break
		}
		delete(s.free[size], half)
		at = min(at, half)
	}
	s.put(size, at)
}

func (s *slots) put(size int, at int64) {
	if s.free[size] == nil {
		s.free[size] = map[int64]struct{}{}
	}
	s.free[size][at] = struct{}{}
}
