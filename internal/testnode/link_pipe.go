package testnode

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// pipe carries the bytes of a connection in one direction: a reader puts them into a ring,
// stamped with the time they arrive, and a writer takes them out then.
type pipe struct {
	c        *linkConn
	d        *direction
	src, dst *net.TCPConn
	reader   waiter
	writer   waiter
	trips    atomic.Int64 // the last round trip of which something was delivered

	mu         sync.Mutex // guards what follows, and the waiters
	ring       []byte     // its length is a power of two; position p is at p modulo the length
	head, tail uint64     // positions of the first byte held and of the next to come
	ready      uint64     // what is before this position has arrived
	stamps     []stamp    // the arrivals of what is from ready on, in order
	writing    int        // how many bytes from head on are being delivered
	lost       int        // bytes that vanished, and one for the end
	scratch    []byte     // where bytes go that vanish
	ended      bool       // the source has closed: nothing comes after tail
	torn       bool       // it ended with a reset, which is passed on like that
	done       bool       // the end was delivered
	dead       bool       // the connection was reset
}

// stamp says when the bytes before a position arrive.
type stamp struct {
	end   uint64
	first time.Time // of the earliest byte
	due   time.Time // of the latest
	trip  int64     // the round trip that they are of
}

// merge is how far apart bytes may arrive that share a stamp.
const merge = 100 * time.Microsecond

func newPipe(c *linkConn, d *direction) (*pipe, error) {
	p := &pipe{c: c, d: d}
	if err := p.reader.init(&p.mu); err != nil {
		return nil, err
	}
	if err := p.writer.init(&p.mu); err != nil {
		p.reader.close()
		return nil, err
	}
	return p, nil
}

// read fills the ring until the source ends.
func (p *pipe) read() {
	for {
		buf := p.space()
		if buf == nil {
			return
		}
		n, err := p.src.Read(buf)
		p.mu.Lock()
		p.put(n)
		if err != nil {
			p.finish(err)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

// space waits until bytes may be read, and returns where to; nil when the pipe is dead. The part
// of the ring it returns is the reader's alone until put.
func (p *pipe) space() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.dead {
		n, later := p.d.admit(time.Now())
		window := p.d.window()
		switch {
		case n == 0:
			p.reader.until(later)
		case p.lost > 0 && p.lost < window:
			// A lost byte is never followed by others, so these need no place in the ring, where the
			// writer may still be at work.
			if p.scratch == nil {
				p.scratch = make([]byte, maxChunk)
			}
			return p.scratch
		case p.lost > 0 || p.held() >= window:
			p.reader.idle()
		default:
			return p.free(n)
		}
	}
	return nil
}

func (p *pipe) held() int { return int(p.tail - p.head) }

// free returns up to n free bytes of the ring, growing it when it is nearly full.
func (p *pipe) free(n int) []byte {
	if len(p.ring)-p.held() < maxChunk/4 {
		bigger := make([]byte, max(maxChunk, 2*len(p.ring)))
		for at := p.head; at < p.tail; {
			part := p.contiguous(at, p.tail)
			copy(bigger[at&uint64(len(bigger)-1):], part)
			at += uint64(len(part))
		}
		p.ring = bigger
	}
	from := int(p.tail & uint64(len(p.ring)-1))
	room := min(len(p.ring)-from, len(p.ring)-p.held(), n)
	return p.ring[from : from+room]
}

// contiguous returns the bytes at a position, up to another one or the end of the ring.
func (p *pipe) contiguous(at, end uint64) []byte {
	from := int(at & uint64(len(p.ring)-1))
	return p.ring[from:min(len(p.ring), from+int(end-at))]
}

// put takes over n bytes that were read into the space.
func (p *pipe) put(n int) {
	if n == 0 || p.dead {
		return
	}
	if p.lost > 0 || p.c.l.dropping.Load() {
		p.lost += n
		return
	}
	now := time.Now()
	due := p.d.send(now, n)
	p.tail += uint64(n)
	if k := len(p.stamps); k > 0 {
		last := &p.stamps[k-1]
		if due.Before(last.due) {
			due = last.due // the delay has become shorter; the order stays
		}
		if due.Sub(last.first) < merge {
			last.end, last.due, last.trip = p.tail, due, p.trip()
			return
		}
	}
	p.stamps = append(p.stamps, stamp{p.tail, due, due, p.trip()})
	p.writer.wake()
}

// trip is the round trip that what is sent now belongs to: an answer to that of what has arrived,
// what goes up to the one after.
func (p *pipe) trip() int64 {
	if p == p.c.up {
		return p.c.down.trips.Load() + 1
	}
	return p.c.up.trips.Load()
}

// finish notes that the source has ended, or was reset.
func (p *pipe) finish(err error) {
	switch {
	case p.dead:
	case p.lost > 0 || p.c.l.dropping.Load():
		p.lost++
	default:
		p.ended = true
		p.torn = p.torn || !errors.Is(err, io.EOF)
		p.writer.wake()
	}
}

// write empties the ring as bytes arrive.
func (p *pipe) write() {
	for {
		chunk, end := p.arrived()
		if end {
			p.deliverEnd()
		}
		if chunk == nil {
			return
		}
		n, after := p.d.grant(len(chunk))
		err := p.deliver(chunk[:n])
		after()
		if err != nil {
			p.broken()
			return
		}
	}
}

// deliver writes bytes of the ring to the destination, unless they have vanished meanwhile.
func (p *pipe) deliver(chunk []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost > 0 || p.dead {
		return nil
	}
	p.writing = len(chunk)
	p.mu.Unlock()
	p.d.delivered.Add(int64(len(chunk))) // before anyone can have seen them
	n, err := p.dst.Write(chunk)
	p.d.delivered.Add(int64(n - len(chunk)))
	p.mu.Lock()
	p.writing = 0
	p.head += uint64(n)
	p.reader.wake()
	return err
}

// arrived waits for bytes to deliver and returns them, or says that the end has arrived; neither
// when the pipe is dead.
func (p *pipe) arrived() (chunk []byte, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.dead {
		if p.c.l.paused.Load() || p.lost > 0 {
			p.writer.idle()
			continue
		}
		now := time.Now()
		k := 0
		for k < len(p.stamps) && !p.stamps[k].due.After(now) {
			p.ready = p.stamps[k].end
			p.trips.Store(p.stamps[k].trip)
			k++
		}
		p.stamps = p.stamps[k:]
		switch {
		case p.head < p.ready:
			part := p.contiguous(p.head, p.ready)
			return part[:min(len(part), maxChunk)], false
		case len(p.stamps) > 0:
			p.writer.until(p.stamps[0].due)
		case p.ended:
			return nil, true
		default:
			p.writer.idle()
		}
	}
	return nil, false
}

// deliverEnd closes the destination for writing, or resets the connection, as the source did.
func (p *pipe) deliverEnd() {
	p.mu.Lock()
	torn, lost := p.torn, p.lost > 0
	p.done = !lost
	p.mu.Unlock()
	switch {
	case lost: // a cut came in between
	case torn:
		p.c.reset()
	default:
		_ = p.dst.CloseWrite()
	}
}

// broken deals with a failed write: the destination is gone. Its last bytes are still under way
// the other way, and the reset comes after them. Nothing of that crosses a cut.
func (p *pipe) broken() {
	p.mu.Lock()
	p.lose()
	p.lost++
	p.mu.Unlock()
	if !p.c.l.dropping.Load() && p.c.opposite(p).tear() {
		p.c.reset()
	}
}

// tear makes the pipe end with a reset, and says whether it is too late for that.
func (p *pipe) tear() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.torn = true
	return p.done
}

// changed tells that the link began or ended to drop or to pause.
func (p *pipe) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c.l.dropping.Load() {
		p.lose()
	}
	p.reader.wake()
	p.writer.wake()
}

// lose lets what the ring holds vanish, but for what is being delivered, and an end that has not
// arrived. Once something is lost nothing is delivered any more.
func (p *pipe) lose() {
	p.lost += p.held() - p.writing
	if p.ended && !p.done {
		p.lost++
	}
}

func (p *pipe) isLossy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost > 0
}

// kill ends the reader and the writer.
func (p *pipe) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	p.reader.wake()
	p.writer.wake()
}

// close frees what the pipe holds, after the reader and the writer have ended.
func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reader.close()
	p.writer.close()
	p.dead, p.ring, p.scratch, p.stamps = true, nil, nil, nil
}
