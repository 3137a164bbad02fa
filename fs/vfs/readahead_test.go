package vfs

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// fakeFile is a file of a fake node that notes what is asked of it.
type fakeFile struct {
	mu    sync.Mutex // guards what follows
	data  []byte
	asked [][2]int64 // offset and end of each request
	fail  error
	gate  chan struct{} // requests wait until it is closed; nil: they do not
}

func (f *fakeFile) fetch(ctx context.Context, off int64, n int) ([]byte, error) {
	f.mu.Lock()
	gate := f.gate
	f.asked = append(f.asked, [2]int64{off, off + int64(n)})
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	off = min(off, int64(len(f.data)))
	return slices.Clone(f.data[off:min(off+int64(n), int64(len(f.data)))]), nil
}

func (f *fakeFile) requests() [][2]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func newTestReader(t *testing.T, f *fakeFile, budget int64, packet int) *readAhead {
	t.Helper()
	b := newReadBudget(budget)
	r := newReadAhead(f.fetch, b, packet)
	t.Cleanup(func() {
		r.Close()
		b.close()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.used != 0 || b.idle.Len() != 0 || len(r.segments) != 0 {
			t.Errorf("after Close %d bytes are held, %d segments idle, %d known", b.used, b.idle.Len(), len(r.segments))
		}
	})
	return r
}

func TestReadAheadSequential(t *testing.T) {
	f := &fakeFile{data: randomBytes(8<<20 + 12345)}
	r := newTestReader(t, f, readBytes, 255<<10)
	var got []byte
	buf := make([]byte, 128<<10)
	for {
		n, err := r.ReadAt(t.Context(), buf, int64(len(got)))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		if n < len(buf) {
			break
		}
	}
	if !bytes.Equal(got, f.data) {
		t.Fatal("read something else")
	}
	r.budget.close()
	sum := int64(0)
	for _, a := range f.requests() {
		sum += min(a[1], int64(len(f.data))) - min(a[0], int64(len(f.data)))
	}
	if sum != int64(len(f.data)) {
		t.Errorf("fetched %d bytes of a file of %d", sum, len(f.data))
	}
}

// Read-ahead fills the link before the reader has come that far.
func TestReadAheadGrows(t *testing.T) {
	f := &fakeFile{data: make([]byte, 64<<20)}
	r := newTestReader(t, f, readBytes, 255<<10)
	buf := make([]byte, 128<<10)
	furthest := func() (end int64) {
		for _, a := range f.requests() {
			end = max(end, a[1])
		}
		return end
	}
	for off := int64(0); off < 4<<20; off += int64(len(buf)) {
		if _, err := r.ReadAt(t.Context(), buf, off); err != nil {
			t.Fatal(err)
		}
	}
	r.budget.close() // all that was asked for has come
	if ahead := furthest() - 4<<20; ahead < 8<<20 || ahead > maxWindow+256<<10 {
		t.Errorf("read ahead by %d bytes", ahead)
	}
	// Another stream in the same file, and a third.
	for i := range int64(8) {
		for _, start := range []int64{30 << 20, 50 << 20} {
			if _, err := r.ReadAt(t.Context(), buf, start+i*int64(len(buf))); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	growing := 0
	for _, s := range r.streams {
		if s.window > firstWindow {
			growing++
		}
	}
	if growing != 3 {
		t.Errorf("%d streams recognised, want 3", growing)
	}
}

func TestReadAheadRandom(t *testing.T) {
	f := &fakeFile{data: randomBytes(16 << 20)}
	r := newTestReader(t, f, readBytes, 255<<10)
	rnd := rand.New(rand.NewPCG(2, 2))
	buf := make([]byte, 4096)
	for range 500 {
		off := (1 + rnd.Int64N(4095)) * 4096 // not the beginning, which is read on as a rule
		if _, err := r.ReadAt(t.Context(), buf, off); err != nil || !bytes.Equal(buf, f.data[off:off+4096]) {
			t.Fatal(off, err)
		}
	}
	var sum int64
	for _, a := range f.requests() {
		sum += a[1] - a[0]
	}
	// By chance some are neighbours.
	if sum > 500*4096+16*firstWindow {
		t.Errorf("%d bytes fetched for 500 × 4096", sum)
	}
}

func TestReadAheadShares(t *testing.T) {
	f := &fakeFile{data: randomBytes(1 << 20), gate: make(chan struct{})}
	r := newTestReader(t, f, readBytes, 255<<10)
	r.SetSize(1 << 20)
	var readers sync.WaitGroup
	for range 10 {
		readers.Go(func() {
			buf := make([]byte, 64<<10)
			if n, err := r.ReadAt(t.Context(), buf, 100<<10); err != nil || !bytes.Equal(buf[:n], f.data[100<<10:164<<10]) {
				t.Error(n, err)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r.budget.mu.Lock()
		refs := 0
		for _, s := range r.segments {
			refs += s.refs
		}
		r.budget.mu.Unlock()
		if refs == 10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the readers do not share requests")
		}
	}
	close(f.gate)
	readers.Wait()
	if l := f.requests(); len(l) != 1 {
		t.Errorf("%d requests: %v", len(l), l)
	}
}

func TestReadAheadErrors(t *testing.T) {
	f := &fakeFile{data: randomBytes(4 << 20)}
	r := newTestReader(t, f, readBytes, 64<<10)
	buf := make([]byte, 64<<10)
	if _, err := r.ReadAt(t.Context(), buf, 0); err != nil {
		t.Fatal(err)
	}
	r.budget.close()
	broken := errors.New("broken")
	f.mu.Lock()
	f.fail = broken
	f.mu.Unlock()
	// What came before is good; what is read ahead now fails, and nobody hears of it.
	if _, err := r.ReadAt(t.Context(), buf, 64<<10); err != nil {
		t.Fatal(err)
	}
	r.budget.close()
	if _, err := r.ReadAt(t.Context(), buf, 2<<20); !errors.Is(err, broken) {
		t.Fatalf("%v, want %v", err, broken)
	}
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	if _, err := r.ReadAt(t.Context(), buf, 2<<20); err != nil || !bytes.Equal(buf, f.data[2<<20:2<<20+64<<10]) {
		t.Fatal(err)
	}
}

// Who has left is not kept by a node that does not answer.
func TestReadAheadInterrupted(t *testing.T) {
	f := &fakeFile{data: make([]byte, 1<<20), gate: make(chan struct{})}
	r := newTestReader(t, f, 128<<10, 64<<10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, off := range []int64{0, 128 << 10, 512 << 10} { // the last waits for room
		if _, err := r.ReadAt(ctx, make([]byte, 100<<10), off); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, want canceled", err)
		}
	}
}

func TestReadAheadEndMoves(t *testing.T) {
	f := &fakeFile{data: randomBytes(1000)}
	r := newTestReader(t, f, readBytes, 64<<10)
	buf := make([]byte, 4096)
	for want := 1000; want < 200_000; want += 777 {
		f.mu.Lock()
		f.data = randomBytes(want)
		f.mu.Unlock()
		for _, off := range []int64{0, int64(want - 500), int64(want)} {
			n, err := r.ReadAt(t.Context(), buf, off)
			if err != nil || n != min(len(buf), want-int(off)) {
				t.Fatalf("file of %d bytes, from %d: %d bytes, %v", want, off, n, err)
			}
		}
	}
}

// Readers and writers at random: who reads gets what was last written before, or later.
func TestReadAheadModel(t *testing.T) {
	const size, block = 1 << 20, 4096
	f := &fakeFile{data: make([]byte, size)}
	r := newTestReader(t, f, 300<<10, 50_000)
	var versions [size / block]struct {
		mu      sync.Mutex // guards version; held while it is written
		version uint32
	}
	fill := func(b []byte, v uint32) {
		for i := 0; i < len(b); i += 4 {
			b[i], b[i+1], b[i+2], b[i+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
		}
	}
	var tasks sync.WaitGroup
	for id := range uint64(3) {
		tasks.Go(func() {
			rnd := rand.New(rand.NewPCG(id, 7))
			for range 2000 {
				i := rnd.IntN(len(versions))
				v := &versions[i]
				v.mu.Lock()
				f.mu.Lock()
				fill(f.data[i*block:(i+1)*block], v.version+1)
				f.mu.Unlock()
				r.Invalidate(int64(i*block), block)
				v.version++
				v.mu.Unlock()
			}
		})
	}
	for id := range uint64(6) {
		tasks.Go(func() {
			rnd := rand.New(rand.NewPCG(id, 8))
			next := 0
			for range 1000 {
				first := next
				if id%2 == 0 || first >= len(versions) {
					first = rnd.IntN(len(versions))
				}
				n := min(1+rnd.IntN(32), len(versions)-first)
				next = first + n
				before := make([]uint32, n)
				for i := range before {
					v := &versions[first+i]
					v.mu.Lock()
					before[i] = v.version
					v.mu.Unlock()
				}
				buf := make([]byte, n*block)
				if got, err := r.ReadAt(t.Context(), buf, int64(first*block)); err != nil || got != len(buf) {
					t.Errorf("read %d of %d bytes, %v", got, len(buf), err)
					return
				}
				for i := range n {
					b := buf[i*block : (i+1)*block]
					v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
					if v < before[i] {
						t.Errorf("block %d: version %d was read after %d was written", first+i, v, before[i])
						return
					}
				}
			}
		})
	}
	tasks.Wait()
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	if r.budget.used > r.budget.most+mostAtOnce {
		t.Errorf("%d bytes are held, %d were allowed", r.budget.used, r.budget.most)
	}
}
