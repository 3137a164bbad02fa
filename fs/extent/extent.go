// Package extent keeps sets of byte ranges of a file: which parts are
// dirty, which are known, which are on their way.
//
// Ranges are half-open, [Off, End), counted in bytes from the beginning of
// the file. A set holds them sorted, without overlap and without two that
// touch: adding [0,4) and [4,8) gives the one extent [0,8). An extent takes
// 16 bytes of memory. Writing a file from its beginning to its end costs
// O(1) for each Add; everything else finds its place by binary search.
//
// A Set is not safe for concurrent use, and must not be changed while one of
// its iterators runs. Copying a Set by assignment shares its memory: use Clone.
package extent

import (
	"iter"
	"slices"
	"sort"
)

// Extent is the range of bytes from Off up to, not including, End.
type Extent struct{ Off, End int64 }

// Len is the number of bytes of the extent.
func (e Extent) Len() int64 { return e.End - e.Off }

// Set is a set of bytes of a file, kept as extents. The zero value is empty
// and ready for use.
type Set struct {
	list  []Extent // sorted; list[i].End < list[i+1].Off; none is empty
	bytes int64    // sum of the lengths
}

// fromEnd returns the index of the first extent whose End is at least off.
// The last extents are looked at first: most changes happen there.
func (s *Set) fromEnd(off int64) int {
	n := len(s.list)
	if n == 0 || s.list[n-1].End < off {
		return n
	}
	if n == 1 || s.list[n-2].End < off {
		return n - 1
	}
	return sort.Search(n, func(i int) bool { return s.list[i].End >= off })
}

// fromOff returns the index of the first extent at or after i whose Off is at
// least off.
func (s *Set) fromOff(i int, off int64) int {
	n := len(s.list)
	if i >= n || s.list[i].Off >= off {
		return i
	}
	if s.list[n-1].Off < off {
		return n
	}
	return i + sort.Search(n-i, func(k int) bool { return s.list[i+k].Off >= off })
}

// Add puts the bytes [off, end) into the set. An empty range changes nothing.
func (s *Set) Add(off, end int64) {
	if off >= end {
		return
	}
	i := s.fromEnd(off)
	if i == len(s.list) {
		s.list = append(s.list, Extent{off, end})
		s.bytes += end - off
		return
	}
	j := s.fromOff(i, end)
	if j < len(s.list) && s.list[j].Off == end {
		j++ // it touches: merge it too
	}
	if i == j {
		s.list = slices.Insert(s.list, i, Extent{off, end})
		s.bytes += end - off
		return
	}
	merged := Extent{min(off, s.list[i].Off), max(end, s.list[j-1].End)}
	for _, e := range s.list[i:j] {
		s.bytes -= e.Len()
	}
	s.bytes += merged.Len()
	s.list[i] = merged
	if j > i+1 {
		s.list = slices.Delete(s.list, i+1, j)
	}
}

// Remove takes the bytes [off, end) out of the set. An empty range changes
// nothing.
func (s *Set) Remove(off, end int64) {
	if off >= end {
		return
	}
	i := s.fromEnd(off)
	if i < len(s.list) && s.list[i].End == off {
		i++ // it only touches
	}
	j := s.fromOff(i, end)
	if i >= j {
		return
	}
	var keep [2]Extent
	n := 0
	if e := s.list[i]; e.Off < off {
		keep[n] = Extent{e.Off, off}
		n++
	}
	if e := s.list[j-1]; e.End > end {
		keep[n] = Extent{end, e.End}
		n++
	}
	for _, e := range s.list[i:j] {
		s.bytes -= e.Len()
	}
	for _, e := range keep[:n] {
		s.bytes += e.Len()
	}
	s.list = slices.Replace(s.list, i, j, keep[:n]...)
	if len(s.list) == 0 {
		s.list = nil
	}
}

// Truncate drops every byte at and beyond size.
func (s *Set) Truncate(size int64) { s.Remove(size, s.End()) }

// Clear empties the set and gives its memory back.
func (s *Set) Clear() { *s = Set{} }

// Clone returns a copy which shares nothing with the set.
func (s *Set) Clone() Set {
	return Set{list: slices.Clone(s.list), bytes: s.bytes}
}

// Empty tells whether the set holds no byte.
func (s *Set) Empty() bool { return len(s.list) == 0 }

// Len is the number of extents.
func (s *Set) Len() int { return len(s.list) }

// Bytes is the number of bytes in the set.
func (s *Set) Bytes() int64 { return s.bytes }

// End is where the last extent ends, 0 if the set is empty.
func (s *Set) End() int64 {
	if len(s.list) == 0 {
		return 0
	}
	return s.list[len(s.list)-1].End
}

// First returns the extent nearest to the beginning of the file; false if the
// set is empty.
func (s *Set) First() (Extent, bool) {
	if len(s.list) == 0 {
		return Extent{}, false
	}
	return s.list[0], true
}

// Covers tells whether all bytes of [off, end) are in the set. An empty range
// is covered.
func (s *Set) Covers(off, end int64) bool {
	if off >= end {
		return true
	}
	// An extent that ends at or before off cannot help; one that holds all of
	// a range which is not empty ends at or after end.
	i := s.fromEnd(end)
	return i < len(s.list) && s.list[i].Off <= off
}

// All yields the extents in order.
func (s *Set) All() iter.Seq[Extent] { return slices.Values(s.list) }

// Within yields the parts of the set inside [off, end) in order, clipped to it.
func (s *Set) Within(off, end int64) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for i := s.fromEnd(off); i < len(s.list) && s.list[i].Off < end; i++ {
			e := Extent{max(off, s.list[i].Off), min(end, s.list[i].End)}
			if e.Off < e.End && !yield(e) {
				return
			}
		}
	}
}

// Gaps yields the parts of [off, end) that are not in the set, in order.
func (s *Set) Gaps(off, end int64) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		at := off
		for e := range s.Within(off, end) {
			if at < e.Off && !yield(Extent{at, e.Off}) {
				return
			}
			at = e.End
		}
		if at < end {
			yield(Extent{at, end})
		}
	}
}
