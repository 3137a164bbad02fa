package spool

import (
	"path/filepath"
	"testing"
)

func BenchmarkAppend(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "spool"))
	defer s.Close()
	p := make([]byte, 100)
	for b.Loop() {
		if err := s.Append(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteAt writes 4 KiB into files whose descriptors are open.
func BenchmarkWriteAt(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "spool"))
	defer s.Close()
	p := make([]byte, 4096)
	b.SetBytes(int64(len(p)))
	for i := 0; b.Loop(); i++ {
		if err := s.WriteAt(uint64(i%100), p, int64(i/100%256)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmallFile is the life of one small file's data: made, written, read
// after its descriptor was closed, removed. 2,000 of them are there at once.
func BenchmarkSmallFile(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "spool"))
	defer s.Close()
	const behind = 2000
	p := make([]byte, 4096)
	for i := range behind {
		if err := s.WriteAt(uint64(i), p, 0); err != nil {
			b.Fatal(err)
		}
	}
	for i := behind; b.Loop(); i++ {
		if err := s.WriteAt(uint64(i), p, 0); err != nil {
			b.Fatal(err)
		}
		if err := s.ReadAt(uint64(i-behind), p, 0); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove(uint64(i - behind)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "spool"))
	defer s.Close()
	for range 20000 {
		if err := s.Append(make([]byte, 100)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(s.Size())
	for b.Loop() {
		if err := s.Replay(func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
