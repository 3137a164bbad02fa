package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// recordSize is the most that record gives.
const recordSize = 100

// record is the record number i of the tests: lengths differ, 0 among them.
func record(i int) []byte {
	if i%7 == 3 {
		return nil
	}
	return []byte(strings.Repeat(fmt.Sprintf("<%d>", i), 1+i%9))
}

func mustOpen(t testing.TB, dir string) *Spool {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func replay(t testing.TB, s *Spool) [][]byte {
	t.Helper()
	var got [][]byte
	err := s.Replay(func(p []byte) error {
		got = append(got, bytes.Clone(p))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// isPrefix checks that the records are record(0), record(1), and so on.
func isPrefix(t testing.TB, got [][]byte) {
	t.Helper()
	for i, p := range got {
		if !bytes.Equal(p, record(i)) {
			t.Fatalf("record %d is %q, want %q", i, p, record(i))
		}
	}
}

// sample makes a journal with record(0) to record(n-1), one a frame but for
// the last two, and returns its bytes and where each frame ends.
func sample(t testing.TB, n int) (file []byte, ends []int64) {
	t.Helper()
	s := mustOpen(t, filepath.Join(t.TempDir(), "spool"))
	ends = append(ends, s.Size())
	for i := range n - 2 {
		if err := s.Append(record(i)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, s.Size())
	}
	if err := s.AppendAll(record(n-2), record(n-1)); err != nil {
		t.Fatal(err)
	}
	ends = append(ends, s.Size())
	file, err := os.ReadFile(s.journal.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return file, ends
}

// withJournal makes file the journal of the closed spool in dir.
func withJournal(t testing.TB, dir string, file []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "journal"), file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkPrefix opens the spool, expects the first n records, and that it takes
// and keeps one more.
func checkPrefix(t testing.TB, dir string, n int) {
	t.Helper()
	s := mustOpen(t, dir)
	defer s.Close()
	got := replay(t, s)
	isPrefix(t, got)
	if len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	if err := s.Append(record(n)); err != nil {
		t.Fatal(err)
	}
	if got = replay(t, s); len(got) != n+1 {
		t.Fatalf("%d records after another one, want %d", len(got), n+1)
	}
	isPrefix(t, got)
}

func emptySpool(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	if err := mustOpen(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCutAtAnyByte(t *testing.T) {
	file, ends := sample(t, 25)
	dir := emptySpool(t)
	for cut := range len(file) + 1 {
		for name, tail := range map[string][]byte{
			"nothing": nil,
			"zeros":   make([]byte, 100), // a file system may leave them
			"foreign": {0xff, 'b', 'F', 'r', 0xa7, 'b', 'F'},
		} {
			if name != "nothing" && cut < fileHeader {
				continue // the header is never written in place
			}
			now := append(file[:cut:cut], tail...)
			whole := 0
			for _, end := range ends[1:] {
				if bytes.HasPrefix(now, file[:end]) { // the tail may happen to complete a frame
					whole++
				}
			}
			if whole == len(ends)-1 {
				whole++ // the last frame holds two
			}
			withJournal(t, dir, now)
			if t.Run(fmt.Sprintf("%d+%s", cut, name), func(t *testing.T) { checkPrefix(t, dir, whole) }); t.Failed() {
				return
			}
		}
	}
}

// TestAnyByteWrong changes each byte: in the last frame that is a torn tail,
// anywhere before it is damage, and nothing is touched.
func TestAnyByteWrong(t *testing.T) {
	file, ends := sample(t, 12)
	dir := emptySpool(t)
	for at := range file {
		bad := bytes.Clone(file)
		bad[at] ^= 0x10
		withJournal(t, dir, bad)
		if int64(at) >= ends[len(ends)-2] {
			checkPrefix(t, dir, len(ends)-2)
			continue
		}
		s := mustOpen(t, dir)
		var got [][]byte
		err := s.Replay(func(p []byte) error { got = append(got, bytes.Clone(p)); return nil })
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.File != filepath.Join(dir, "journal") {
			t.Fatalf("byte %d: %v", at, err)
		}
		isPrefix(t, got)
		want := int64(0)
		if at >= fileHeader {
			want = ends[len(got)]
			if int64(at) < want || int64(at) >= ends[len(got)+1] {
				t.Fatalf("byte %d: %d records before it", at, len(got))
			}
		}
		if corrupt.Offset != want {
			t.Fatalf("byte %d: offset %d, want %d", at, corrupt.Offset, want)
		}
		if err := s.Append([]byte("x")); !errors.As(err, &corrupt) {
			t.Fatalf("byte %d: append: %v", at, err)
		}
		if err := s.Rewrite(slices.Values([][]byte{})); !errors.As(err, &corrupt) {
			t.Fatalf("byte %d: rewrite: %v", at, err)
		}
		s.Close()
		if now, _ := os.ReadFile(corrupt.File); !bytes.Equal(now, bad) {
			t.Fatalf("byte %d: the file was changed", at)
		}
	}
}

// TestMissingFrame takes a frame out: all that are left are valid.
func TestMissingFrame(t *testing.T) {
	file, ends := sample(t, 10)
	dir := emptySpool(t)
	withJournal(t, dir, slices.Delete(bytes.Clone(file), int(ends[3]), int(ends[4])))
	s := mustOpen(t, dir)
	defer s.Close()
	var corrupt *CorruptError
	if err := s.Replay(func([]byte) error { return nil }); !errors.As(err, &corrupt) || corrupt.Offset != ends[3] {
		t.Fatal(err)
	}
}

// TestRecordsThatLookLikeFrames: what a program puts into a record must not be
// taken for a frame that follows, when that record is torn.
func TestRecordsThatLookLikeFrames(t *testing.T) {
	var foreign salt
	trap := foreign.appendFrame(nil, 2, []byte("trap"))
	trap = foreign.appendFrame(trap, 3, []byte("trap"))
	dir := emptySpool(t)
	s := mustOpen(t, dir)
	if err := s.Append(record(0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(append(trap, "some more"...)); err != nil {
		t.Fatal(err)
	}
	size := s.Size()
	s.Close()
	if err := os.Truncate(s.journal.path, size-1); err != nil {
		t.Fatal(err)
	}
	checkPrefix(t, dir, 1)
}

// TestFarFrame puts the frame that proves the damage far behind it, so that it
// crosses the windows of the search.
func TestFarFrame(t *testing.T) {
	for _, gap := range []int{64<<10 - 30, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000} {
		dir := emptySpool(t)
		s := mustOpen(t, dir)
		if err := errors.Join(s.Append(make([]byte, gap)), s.Append(bytes.Repeat([]byte(frameMagic), 40_000)), s.Append([]byte("last"))); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int64{s.Size(), s.Size() - 1} { // with the last frame, without it
			file, _ := os.ReadFile(s.journal.path)
			file = file[:size]
			file[fileHeader+30] ^= 1
			s.Close()
			withJournal(t, dir, file)
			s = mustOpen(t, dir)
			var corrupt *CorruptError
			if err := s.Replay(func([]byte) error { return nil }); !errors.As(err, &corrupt) || corrupt.Offset != fileHeader {
				t.Fatalf("gap %d: %v", gap, err)
			}
			file[fileHeader+30] ^= 1
			withJournal(t, dir, file)
		}
		s.Close()
	}
}

func TestAppendWithoutReplay(t *testing.T) {
	file, ends := sample(t, 10)
	dir := emptySpool(t)
	withJournal(t, dir, file[:ends[6]+5])
	s := mustOpen(t, dir)
	if err := s.Append(record(6)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	checkPrefix(t, dir, 7)
}

func TestReplayStopsAtError(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "spool"))
	defer s.Close()
	for i := range 5 {
		if err := s.Append(record(i)); err != nil {
			t.Fatal(err)
		}
	}
	stop, n := errors.New("stop"), 0
	if err := s.Replay(func([]byte) error { n++; return stop }); err != stop || n != 1 {
		t.Fatalf("%v after %d", err, n)
	}
	if got := replay(t, s); len(got) != 5 {
		t.Fatalf("%d records", len(got))
	}
}

func TestConcurrentAppends(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	const writers, each = 8, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p := binary.BigEndian.AppendUint32([]byte{byte(w)}, uint32(i))
				if err := s.AppendAll(p, p); err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					if err := s.Sync(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	s.Close()
	s = mustOpen(t, dir)
	defer s.Close()
	var next [writers]uint32
	got := replay(t, s)
	for i := 0; i < len(got); i += 2 {
		w, n := got[i][0], binary.BigEndian.Uint32(got[i][1:])
		if n != next[w] || !bytes.Equal(got[i], got[i+1]) {
			t.Fatalf("writer %d: record %d, want %d", w, n, next[w])
		}
		next[w]++
	}
	if len(got) != 2*writers*each {
		t.Fatalf("%d records", len(got))
	}
}

func TestRewrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	for i := range 50 {
		if err := s.Append([]byte(fmt.Sprint("old ", i))); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Size()
	tooBig := slices.Values([][]byte{record(0), make([]byte, MaxRecords)})
	if err := s.Rewrite(tooBig); err == nil {
		t.Fatal("a record that does not fit was taken")
	}
	if got := replay(t, s); len(got) != 50 || s.Size() != before {
		t.Fatalf("after a failed rewrite: %d records, %d bytes", len(got), s.Size())
	}
	if _, err := os.Lstat(s.journal.path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("journal.new: %v", err)
	}
	if err := s.Rewrite(slices.Values([][]byte{record(0), record(1)})); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(record(2)); err != nil {
		t.Fatal(err)
	}
	if s.Size() >= before {
		t.Fatalf("%d bytes after the rewrite, %d before", s.Size(), before)
	}
	s.Close()
	// What a crash in the middle of a rewrite leaves is of no account.
	if err := os.WriteFile(s.journal.path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkPrefix(t, dir, 3)
	s = mustOpen(t, dir)
	defer s.Close()
	if err := s.Rewrite(slices.Values([][]byte{})); err != nil {
		t.Fatal(err)
	}
	if got := replay(t, s); len(got) != 0 || s.Size() != fileHeader {
		t.Fatalf("%d records, %d bytes", len(got), s.Size())
	}
}

func TestRecordsTooBig(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "spool"))
	defer s.Close()
	half := make([]byte, MaxRecords/2)
	if err := s.AppendAll(half, half); err == nil || s.Size() != fileHeader {
		t.Fatalf("%v, size %d", err, s.Size())
	}
	if err := s.Append(make([]byte, MaxRecords-10)); err != nil {
		t.Fatal(err)
	}
	if got := replay(t, s); len(got) != 1 || len(got[0]) != MaxRecords-10 {
		t.Fatalf("%d records", len(got))
	}
	if err := s.AppendAll(); err != nil {
		t.Fatal(err)
	}
}

// appendUntilFull appends until there is no room, makes some room by a
// shorter record if that fits, checks the journal each time, and returns how
// many records are in it.
func appendUntilFull(s *Spool) (n int, err error) {
	for big := 3000; big > 0; {
		before := s.Size()
		err := s.Append(make([]byte, big))
		if err == nil {
			n++
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
			return n, err
		}
		if !strings.Contains(err.Error(), s.journal.path) {
			return n, fmt.Errorf("does not name the path: %w", err)
		}
		info, err := os.Stat(s.journal.path)
		if err != nil {
			return n, err
		}
		if s.Size() != before || info.Size() != before {
			return n, fmt.Errorf("size %d, file %d, before %d", s.Size(), info.Size(), before)
		}
		big /= 2
	}
	got := 0
	if err := s.Replay(func([]byte) error { got++; return nil }); err != nil {
		return n, err
	}
	if got != n {
		return n, fmt.Errorf("%d records, want %d", got, n)
	}
	return n, nil
}

func FuzzReplay(f *testing.F) {
	file, ends := sample(f, 8)
	f.Add(file)
	f.Add(file[:len(file)-3])
	f.Add(slices.Delete(bytes.Clone(file), int(ends[2]), int(ends[3])))
	f.Add([]byte{})
	f.Add([]byte(fileMagic))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file []byte) {
		path := filepath.Join(dir, "journal")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := openJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		defer j.close()
		var got [][]byte
		keep := func(p []byte) error { got = append(got, bytes.Clone(p)); return nil }
		err = j.scan(keep)
		now, _ := os.ReadFile(path)
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			if !bytes.Equal(now, file) {
				t.Fatal("a damaged journal was changed")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(file) > fileHeader && !bytes.HasPrefix(file, now) {
			t.Fatal("what is left is not the beginning of what was")
		}
		first := got
		if err := j.append(0, []byte("one more")); err != nil {
			t.Fatal(err)
		}
		got = nil
		if err := j.scan(keep); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(first)+1 || string(got[len(first)]) != "one more" || !slices.EqualFunc(got[:len(first)], first, bytes.Equal) {
			t.Fatalf("%d records, then %d", len(first), len(got))
		}
	})
}

// TestReset drops all records; what is appended then is all there is.
func TestReset(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	if empty, err := s.Empty(); !empty || err != nil {
		t.Errorf("a new spool is empty: %v, %v", empty, err)
	}
	for i := range 10 {
		if err := s.Append(record(i)); err != nil {
			t.Fatal(err)
		}
	}
	if empty, err := s.Empty(); empty || err != nil {
		t.Errorf("with records it is empty: %v, %v", empty, err)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(record(0)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = mustOpen(t, dir)
	defer s.Close()
	if got := replay(t, s); len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
}
