package vfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bundlefs/internal/sftpwire"
)

const (
	// writeBytes is how much memory written data may take that the node lacks, of
	// all files of a mount together.
	writeBytes = 16 << 20

	// mostFlying is how many writes of one file are on their way at most, and leastFlying how many
	// also on a short link.
	mostFlying, leastFlying = 128, 4
)

// chunk is written data: at first to be sent, then on its way until the node has
// answered, and to be sent again when the connection is lost before that.
type chunk struct {
	off    int64 // of no meaning in a file that is appended to
	data   []byte
	flying bool
	on     *session // on which it is flying
	given  bool     // an error was told for it: it is not sent (again)
}

func (c *chunk) end() int64 { return c.off + int64(len(c.data)) }

// writeQueue is the data of one handle that the node lacks, in the order in which
// it was written. What overlaps is sent in that order, everything else at once. Of
// small writes one behind the other, what comes while others are on their way goes
// in one.
type writeQueue struct {
	mu      sync.Mutex // guards what follows
	changed *sync.Cond // on mu
	chunks  []*chunk
	flying  int
	urgent  bool          // somebody waits: nothing is held back for more to come
	running bool          // pump runs
	idle    chan struct{} // closed when chunks is empty; nil while nobody has asked
	err     error         // to be told by the next write, flush or fsync
	sentOn  *connection   // on which the last chunk was sent
	bytes   int64         // sent on it in a row, for widening
}

// put queues data for writing at off. The room for it has been taken.
func (s *Shared) put(f *sharedFile, data []byte, off int64) {
	packet := basePacket
	if c, _, _ := s.link.state(); c != nil {
		packet = c.packet()
	}
	q := &f.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.chunks) == 0 {
		s.tree.queued(f.node)
		q.urgent = false
	}
	end := off + int64(len(data))
	if f.appends {
		end = -1
	}
	s.tree.writing(f.node, end, int64(len(data)))
	for len(data) > 0 {
		if n := len(q.chunks); n > 0 {
			last := q.chunks[n-1]
			if !last.flying && !last.given && (f.appends || last.end() == off) && len(last.data) < packet {
				more := min(packet-len(last.data), len(data))
				last.data = append(last.data, data[:more]...)
				data, off = data[more:], off+int64(more)
				continue
			}
		}
		n := min(packet, len(data))
		q.chunks = append(q.chunks, &chunk{off: off, data: append(make([]byte, 0, n), data[:n]...)})
		data, off = data[n:], off+int64(n)
	}
	if !q.running {
		q.running = true
		s.tasks.Go(func() { s.pump(f) })
	}
	q.changed.Broadcast()
}

// next is the first chunk that may be sent now, when at most so many are on their way, or nil; mu is held.
func (q *writeQueue) next(appends bool, packet, most int) *chunk {
	if q.flying >= most {
		return nil
	}
	for i, c := range q.chunks {
		if c.flying {
			continue
		}
		if appends {
			// One behind the other on one handle. After a loss the rest of those that
			// were on their way comes back first.
			for _, later := range q.chunks[i:] {
				if later.flying {
					return nil
				}
			}
			if q.held(c, packet) {
				return nil
			}
			return c
		}
		free := !q.held(c, packet)
		for _, before := range q.chunks[:i] {
			free = free && (before.end() <= c.off || c.end() <= before.off)
		}
		if free {
			return c
		}
	}
	return nil
}

// mostFlying is how many writes of so many bytes are worth to be on their way.
func (s *Shared) mostFlying(packet int) int {
	const most = mostFlying * maxData
	return min(max(int(s.link.metrics.rtt.flight(most))/packet, leastFlying), mostFlying)
}

// held reports whether a chunk waits for more to come; mu is held.
func (q *writeQueue) held(c *chunk, packet int) bool {
	return len(c.data) < packet && !q.urgent && !c.given && q.flying > 0 && c == q.chunks[len(q.chunks)-1]
}

// pump sends what is queued until nothing is left.
func (s *Shared) pump(f *sharedFile) {
	q := &f.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if len(q.chunks) == 0 {
			q.running = false
			return
		}
		packet := basePacket
		if q.sentOn != nil {
			packet = q.sentOn.packet()
		}
		if !f.appends && q.flying > 0 && q.bytes >= wideBytes && f.remote.mayWiden() {
			q.changed.Wait() // the handles are compared while nothing is on its way
			continue
		}
		c := q.next(f.appends, packet, s.mostFlying(packet))
		if c == nil {
			q.changed.Wait()
			continue
		}
		if c.given {
			s.done(f, c)
			continue
		}
		quiet := q.flying == 0
		q.mu.Unlock()
		h, err := s.handleToWrite(f, quiet)
		q.mu.Lock()
		switch {
		case err != nil:
			s.lose(f, err)
		case f.appends && q.sentOn != nil && q.sentOn != h.conn && !quiet:
			q.changed.Wait() // those of the lost connection come back first
		default:
			s.send(f, c, h)
		}
	}
}

// send sends one chunk; q.mu is held, and given up while the session takes it.
func (s *Shared) send(f *sharedFile, c *chunk, h remoteHandle) {
	q := &f.queue
	if q.sentOn != h.conn {
		q.sentOn, q.bytes = h.conn, 0
	}
	c.flying, c.on = true, h.session
	q.flying++
	q.bytes += int64(len(c.data))
	data := c.data // nothing is added to what is flying
	q.mu.Unlock()
	h.inflight.Add(1)
	request := h.Write(h.id, uint64(c.off), data)
	q.mu.Lock()
	s.tasks.Go(func() {
		err := request.Wait(context.Background())
		h.inflight.Add(-1)
		s.answered(f, c, h, err)
	})
}

// answered takes the node's answer to a chunk.
func (s *Shared) answered(f *sharedFile, c *chunk, h remoteHandle, err error) {
	q := &f.queue
	if isLost(err) {
		h.conn.fail()
		q.mu.Lock()
		defer q.mu.Unlock()
		c.flying = false
		q.flying--
		q.changed.Broadcast()
		return
	}
	end := c.end()
	if f.appends {
		end = -1
	}
	if err == nil {
		s.tree.written(f.node, end, int64(len(c.data)))
		for _, other := range s.tree.handles(f.node) {
			if f.appends {
				s.dropFetched(other, 0, -1)
			} else {
				s.dropFetched(other, c.off, int64(len(c.data)))
			}
		}
	} else {
		err = &Error{"write", f.path, s.whyNotWritten(s.link.ctx, f.path, len(c.data), err)}
		s.log.Warn("writing failed", "error", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		if q.err == nil {
			q.err = err
		}
		s.tree.setEnd(f.node, -1)
	}
	c.flying = false
	q.flying--
	s.done(f, c)
}

// done removes a chunk: the node has it, or never will; q.mu is held.
func (s *Shared) done(f *sharedFile, c *chunk) {
	q := &f.queue
	if i := slices.Index(q.chunks, c); i >= 0 {
		q.chunks = slices.Delete(q.chunks, i, i+1)
	}
	s.room.Release(int64(len(c.data)))
	if len(q.chunks) == 0 {
		s.tree.sent(f.node)
		if q.idle != nil {
			close(q.idle)
			q.idle = nil
		}
	}
	q.changed.Broadcast()
}

// lose drops all that is not on its way, since it cannot be sent: the next write,
// flush or fsync tells so. q.mu is held.
func (s *Shared) lose(f *sharedFile, err error) {
	q := &f.queue
	if q.err == nil {
		q.err = &Error{"write", f.path, err}
	}
	s.log.Warn("written data is lost", "path", f.path, "error", err)
	s.tree.setEnd(f.node, -1)
	for _, c := range append([]*chunk(nil), q.chunks...) {
		if c.given = true; !c.flying {
			s.done(f, c)
		}
	}
}

// giveUp has what is left not sent (again): told for failed, it must not arrive
// much later.
func (q *writeQueue) giveUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.chunks {
		c.given = true
	}
	q.changed.Broadcast()
}

// handleToWrite returns the handle for the next chunk. When nothing is on its way,
// which quiet says, more handles are opened if much has been written, and after a
// loss it is found out what of an appended file's data has arrived.
func (s *Shared) handleToWrite(f *sharedFile, quiet bool) (remoteHandle, error) {
	ctx := s.link.ctx
	h, err := s.handle(ctx, f)
	if err != nil {
		return h, err
	}
	q := &f.queue
	q.mu.Lock()
	before, bytes := q.sentOn, q.bytes
	q.mu.Unlock()
	switch {
	case f.appends && before != nil && before != h.conn && quiet:
		if err := s.resolveAppend(ctx, f, h); err != nil {
			return h, err
		}
	case !f.appends && bytes >= wideBytes && quiet:
		s.widen(ctx, f)
	}
	return h, nil
}

// resolveAppend finds out after a loss what of the data that is queued the node has
// appended: it takes it in order, so that its size tells.
func (s *Shared) resolveAppend(ctx context.Context, f *sharedFile, h remoteHandle) error {
	size := func() (int64, error) {
		st, err := on(ctx, s.link, h, func() (sftpwire.Stat, error) { return h.Fstat(h.id).Wait(context.Background()) }, nil)
		return int64(min(st.Size, 1<<63-1)), err
	}
	at, err := size()
	for last := int64(-1); err == nil && at != last; {
		// The server of the lost session may still be at work.
		select {
		case <-time.After(appendSettle):
		case <-ctx.Done():
			return errClosed
		}
		last = at
		at, err = size()
	}
	if err != nil {
		return err
	}
	end, known := s.tree.end(f.node)
	q := &f.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	var waiting int64
	for _, c := range q.chunks {
		waiting += int64(len(c.data))
	}
	arrived := at - end
	if !known || arrived < 0 || arrived > waiting {
		return fmt.Errorf("the connection was lost, and whether the node has appended the data cannot be told: %w", errLost)
	}
	for arrived > 0 {
		c := q.chunks[0]
		n := min(arrived, int64(len(c.data)))
		s.tree.written(f.node, -1, n)
		arrived -= n
		if n == int64(len(c.data)) {
			s.done(f, c)
			continue
		}
		c.data = c.data[n:]
		s.room.Release(n)
	}
	q.sentOn = h.conn
	return nil
}

// appendSettle is how long the size of a file that was appended to must stay the
// same to be believed after a loss.
const appendSettle = 100 * time.Millisecond

// owed is how many bytes are queued of which nobody was told that they have failed.
func (q *writeQueue) owed() (bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.chunks {
		if !c.given {
			bytes += int64(len(c.data))
		}
	}
	return bytes
}

// pending is what was written and the node has not acknowledged, of all files that are open.
func (s *Shared) pending() Progress {
	var p Progress
	nodes := map[*node]struct{}{}
	for _, f := range s.allFiles() {
		if n := f.queue.owed(); n > 0 {
			p.Bytes += n
			nodes[f.node] = struct{}{}
		}
	}
	p.Files = len(nodes)
	return p
}

// settleFile waits until the node has what was written through f. Its error is that
// of waiting; those of writing are kept in the queue.
func (s *Shared) settleFile(ctx context.Context, f *sharedFile) error {
	q := &f.queue
	q.mu.Lock()
	if len(q.chunks) == 0 {
		q.mu.Unlock()
		return nil
	}
	q.urgent = true
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.changed.Broadcast()
	q.mu.Unlock()
	err := s.link.await(ctx, idle, func() time.Duration { return cmp.Or(q.silence(), s.link.silence()) })
	if errors.Is(err, context.DeadlineExceeded) {
		q.giveUp()
	}
	return err
}

// silence is how long one of the sessions on which something is flying has owed the answer;
// 0 if none does.
func (q *writeQueue) silence() (longest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.chunks {
		if c.flying {
			longest = max(longest, c.on.silence())
		}
	}
	return longest
}

// settle waits until the node has what was written to n through any handle, so that
// what is asked of it next is true.
func (s *Shared) settle(ctx context.Context, n *node) error {
	if !s.tree.isPending(n) {
		return nil
	}
	for _, f := range s.tree.handles(n) {
		if err := s.settleFile(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// takeErr returns the error that was kept, once.
func (f *sharedFile) takeErr() error {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	err := f.queue.err
	f.queue.err = nil
	return err
}
