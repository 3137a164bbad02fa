package vfs

// stream is somebody who reads a file from one place on. Several may read one file.
type stream struct {
	next   int64  // where he is expected next
	asked  int64  // up to where it was read ahead
	window int64  // how far to read ahead; 0: it is not known that he reads on
	last   uint64 // the count of readAhead.reads when he was last seen
}

const (
	maxStreams = 16
	// firstWindow is how far is read ahead for who begins to read a file, or reads
	// on for the first time; it doubles with each further read.
	firstWindow = 256 << 10
	// maxWindow fills a link of 100 MB/s and 100 ms.
	maxWindow = 12 << 20
	// outOfTurn is by how much reads of one stream may come out of order, as the
	// kernel's do, which are served side by side.
	outOfTurn = 4 << 20
	// forgotten is how many reads of others make a stream as good as a new one.
	forgotten = 256
)

// follow notes a read and returns the stream that it goes on, nil if there is
// none; budget.mu is held.
func (r *readAhead) follow(off, end int64) *stream {
	r.reads++
	var near *stream
	for _, s := range r.streams {
		if off == s.next {
			s.next, s.last = end, r.reads
			s.window = min(max(2*s.window, firstWindow), maxWindow)
			return s
		}
		if far := min(s.window+end-off, outOfTurn); s.window > 0 && off >= s.next-far && off <= s.next+far {
			near = s
		}
	}
	if near != nil {
		near.next, near.last = max(near.next, end), r.reads
		return nil
	}
	s := &stream{next: end, asked: end, last: r.reads}
	r.replace(s)
	if off != 0 {
		return nil
	}
	s.window = firstWindow
	return s
}

// replace adds a stream, for the one that was not seen for longest if there are
// many; those that are known to read on come last. budget.mu is held.
func (r *readAhead) replace(s *stream) {
	if len(r.streams) < maxStreams {
		r.streams = append(r.streams, s)
		return
	}
	worst, rank := 0, uint64(1<<63)
	for i, old := range r.streams {
		value := old.last
		if old.window > 0 {
			value += forgotten
		}
		if value < rank {
			worst, rank = i, value
		}
	}
	r.streams[worst] = s
}

// readOn asks for what comes next in a stream, in whole packets; budget.mu is held.
func (r *readAhead) readOn(s *stream) {
	s.asked = max(s.asked, s.next)
	end := s.next + s.window
	if r.size >= 0 {
		end = min(end, r.size)
	}
	for s.asked < end {
		to := min(s.asked+int64(r.packet), end)
		if to-s.asked < int64(r.packet) && end != r.size && s.asked > s.next {
			return // soon there is more to ask for
		}
		for _, gap := range r.gaps(s.asked, to) {
			if !r.budget.reserveAhead(gap[1] - gap[0]) {
				return
			}
			r.ask(gap[0], gap[1], s)
		}
		s.asked = to
	}
}
