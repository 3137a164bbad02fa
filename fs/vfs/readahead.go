package vfs

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"time"
)

// fetchFunc is one read of the node: n bytes from off, fewer only at the end of
// the file. The bytes are the caller's. It returns soon after ctx has ended.
type fetchFunc func(ctx context.Context, off int64, n int) ([]byte, error)

// readAhead reads one file of the node. Whoever reads on where he stopped has what
// comes next fetched ahead, the more the longer he goes on; whoever reads here and
// there has fetched what he asks for. Readers of the same bytes share one request.
//
// Nothing is kept that was read: the kernel does that. So a second reading asks
// the node again, and so does one at what was the end of the file.
type readAhead struct {
	fetch  fetchFunc
	budget *readBudget
	packet int // most bytes of one request
	ctx    context.Context
	stop   context.CancelFunc

	// Guarded by budget.mu.
	segments []*segment // by offset; they do not overlap
	streams  []*stream
	reads    uint64 // counts ReadAt
	size     int64  // nothing is read ahead from here on; <0: not known
	closed   bool
}

// segment is a part of a file that was asked for.
type segment struct {
	r      *readAhead
	off    int64
	n      int           // bytes asked for; once it is there, bytes that it has
	asked  int           // bytes asked for
	done   chan struct{} // closed when data or err is set
	data   []byte
	err    error
	stream *stream // for which it was fetched ahead; nil: a reader asked

	// Guarded by budget.mu.
	refs    int  // readers that wait for it or copy from it
	read    int  // bytes that were read
	arrived bool // as done
	gone    bool // not in r.segments any more
	idle    idleSegment
}

func (s *segment) end() int64 { return s.off + int64(s.n) }

// mostAtOnce bounds what one reader holds of the budget at a time.
const mostAtOnce = 1 << 20

// newReadAhead makes the reader of one file, whose requests take up to packet bytes.
func newReadAhead(fetch fetchFunc, budget *readBudget, packet int) *readAhead {
	r := &readAhead{fetch: fetch, budget: budget, packet: packet, size: -1}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// SetSize says where the file is believed to end, so that nothing is read ahead
// behind that; it does not bound what is read.
func (r *readAhead) SetSize(size int64) {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	r.size = size
}

// covers reports whether all of a range was asked for and is not read yet.
func (r *readAhead) covers(off, n int64) bool {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	return len(r.gaps(off, off+n)) == 0
}

// ReadAt fills dest from off; it is short only at the end of the file. A caller
// whose context ends leaves within a second.
func (r *readAhead) ReadAt(ctx context.Context, dest []byte, off int64) (int, error) {
	total := 0
	for total < len(dest) {
		part := dest[total:min(total+mostAtOnce, len(dest))]
		n, err := r.readPart(ctx, part, off+int64(total))
		if err != nil {
			return 0, err
		}
		total += n
		if n < len(part) {
			break
		}
	}
	return total, nil
}

// readPart is ReadAt for at most mostAtOnce bytes.
func (r *readAhead) readPart(ctx context.Context, dest []byte, off int64) (int, error) {
	held, err := r.hold(ctx, off, off+int64(len(dest)))
	if err != nil {
		return 0, err
	}
	n := 0
	defer func() { r.letGo(held, off, off+int64(n)) }()
	leave := newLeaving(ctx)
	defer leave.stop()
	for _, s := range held {
		err := leave.wait(s.done)
		if err == nil {
			err = s.err
		}
		if err != nil {
			n = 0
			return 0, err
		}
		at := off + int64(n) - s.off
		if at < int64(len(s.data)) {
			n += copy(dest[n:], s.data[at:])
		}
		if len(s.data) < s.asked {
			break // the end of the file
		}
	}
	return n, nil
}

// hold returns the segments that cover a range, in order; what is missing is asked for.
func (r *readAhead) hold(ctx context.Context, off, end int64) ([]*segment, error) {
	b := r.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	var held []*segment
	for {
		if r.closed {
			return nil, errClosed
		}
		// What is there already must not be dropped to make room for the rest.
		held = slices.Clone(r.within(off, end))
		for _, s := range held {
			s.addRef()
		}
		missing := end - off
		for _, s := range held {
			missing -= min(s.end(), end) - max(s.off, off)
		}
		if b.reserve(missing) {
			break
		}
		r.drop(held)
		if err := b.wait(ctx); err != nil {
			return nil, err
		}
	}
	stream := r.follow(off, end)
	for _, gap := range r.gaps(off, end) {
		for from := gap[0]; from < gap[1]; from += int64(r.packet) {
			s := r.ask(from, min(from+int64(r.packet), gap[1]), nil)
			s.addRef()
			held = append(held, s)
		}
	}
	slices.SortFunc(held, func(a, b *segment) int { return cmp.Compare(a.off, b.off) })
	if stream != nil {
		r.readOn(stream)
	}
	return held, nil
}

// letGo ends the use of segments by who has read a range. What was read is dropped,
// and so is what failed.
func (r *readAhead) letGo(held []*segment, off, end int64) {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	for _, s := range held {
		s.read += int(max(0, min(s.end(), end)-max(s.off, off)))
	}
	r.drop(held)
}

// drop takes back references; budget.mu is held.
func (r *readAhead) drop(held []*segment) {
	for _, s := range held {
		s.refs--
		s.settle()
	}
}

// addRef keeps s from being dropped; budget.mu is held.
func (s *segment) addRef() {
	s.refs++
	s.r.budget.notIdle(s)
}

// settle drops s if nobody needs it any more, or has it dropped when there is no
// room for others; budget.mu is held.
func (s *segment) settle() {
	switch {
	case s.refs > 0 || !s.arrived:
	case s.gone || s.err != nil || s.read >= s.n:
		s.r.remove(s)
		s.r.budget.free(len(s.data))
		s.data = nil
	default:
		s.r.budget.setIdle(s)
	}
}

// remove takes s out of the file's segments; budget.mu is held.
func (r *readAhead) remove(s *segment) {
	if s.gone {
		return
	}
	s.gone = true
	if i := slices.Index(r.segments, s); i >= 0 {
		r.segments = slices.Delete(r.segments, i, i+1)
	}
}

// within are the segments that overlap a range; budget.mu is held.
func (r *readAhead) within(off, end int64) []*segment {
	i := r.firstAfter(off)
	j := i
	for j < len(r.segments) && r.segments[j].off < end {
		j++
	}
	return r.segments[i:j:j]
}

// firstAfter is the index of the first segment that ends after off; budget.mu is held.
func (r *readAhead) firstAfter(off int64) int {
	return sort.Search(len(r.segments), func(i int) bool { return r.segments[i].end() > off })
}

// gaps are the parts of a range that no segment has; budget.mu is held.
func (r *readAhead) gaps(off, end int64) (l [][2]int64) {
	for _, s := range r.within(off, end) {
		if s.off > off {
			l = append(l, [2]int64{off, s.off})
		}
		off = s.end()
	}
	if off < end {
		l = append(l, [2]int64{off, end})
	}
	return l
}

// ask requests a part for which there is no segment and for which room is
// reserved; budget.mu is held.
func (r *readAhead) ask(off, end int64, ahead *stream) *segment {
	n := int(end - off)
	s := &segment{r: r, off: off, n: n, asked: n, stream: ahead, done: make(chan struct{})}
	r.segments = slices.Insert(r.segments, r.firstAfter(off), s)
	r.budget.fetches.Add(1)
	go func() {
		defer r.budget.fetches.Done()
		data, err := r.fetch(r.ctx, off, n)
		r.budget.mu.Lock()
		defer r.budget.mu.Unlock()
		s.arrive(data, err)
	}()
	return s
}

// arrive takes what the node has answered; budget.mu is held.
func (s *segment) arrive(data []byte, err error) {
	r := s.r
	data = data[:min(len(data), s.n)]
	s.data, s.err, s.arrived = data, err, true
	if err != nil {
		s.data = nil
	}
	r.budget.free(s.n - len(s.data))
	s.n = len(s.data)
	if s.n < s.asked || err != nil {
		// Whoever reads on after the end, or after an error, asks the node again;
		// for that an empty segment must not stay.
		for _, st := range r.streams {
			st.asked = min(st.asked, s.end())
		}
		if err == nil && (s.n > 0 || r.size < 0 || r.size > s.off) {
			r.size = s.end()
		}
		if err != nil && s.stream != nil {
			s.stream.window = 0
		}
		if s.n == 0 {
			r.remove(s)
		}
	} else if r.size >= 0 && s.end() > r.size {
		r.size = -1 // it has grown
	}
	s.settle()
	close(s.done)
}

// Invalidate drops what was fetched of a range, n < 0: to the end of the file. Who
// asks from now on gets what the node has from now on.
func (r *readAhead) Invalidate(off, n int64) {
	end := off + n
	if n < 0 {
		end = 1<<63 - 1
	}
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	r.invalidate(off, end)
}

// invalidate is Invalidate; budget.mu is held.
func (r *readAhead) invalidate(off, end int64) {
	for _, s := range slices.Clone(r.within(off, end)) {
		r.remove(s)
		if s.refs == 0 && s.arrived {
			r.budget.notIdle(s)
		}
		s.settle()
	}
	for _, st := range r.streams {
		st.asked = min(st.asked, off)
	}
	if r.size >= 0 && end > r.size {
		r.size = -1
	}
}

// Close ends the requests that are under way and drops all; it does not wait for
// them (see readBudget.close).
func (r *readAhead) Close() {
	r.budget.mu.Lock()
	r.closed = true
	r.invalidate(0, 1<<63-1)
	r.budget.mu.Unlock()
	r.stop()
}

// leaving lets a caller whose context has ended wait a little for what is about to
// come: programs are interrupted all the time (see interruptGrace).
type leaving struct {
	ctx   context.Context
	timer *time.Timer
}

func newLeaving(ctx context.Context) *leaving { return &leaving{ctx: ctx} }

func (l *leaving) wait(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-l.ctx.Done():
	}
	if l.timer == nil {
		l.timer = time.NewTimer(interruptGrace)
	}
	select {
	case <-done:
		return nil
	case <-l.timer.C:
		l.timer.Reset(0) // for those that are waited for next
		return l.ctx.Err()
	}
}

func (l *leaving) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
}
