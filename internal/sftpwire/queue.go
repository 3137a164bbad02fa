package sftpwire

import (
	"encoding/binary"
	"io"
)

// queue are packets to be written. What is short is copied together, so that many packets leave
// in one of SSH; long data is written from where it is.
type queue struct {
	short []byte
	long  []longData
	bytes int // of all
}

// longData goes between two parts of what is short.
type longData struct {
	after   int // so many bytes of short come before it
	data    []byte
	written func() // nil: nobody wants to know
}

// longLeast is from where on data is not copied, in bytes: writing it apart costs a packet of SSH.
const longLeast = 16 << 10

// add adds a packet.
func (q *queue) add(typ byte, id uint32, body, data []byte, written func()) {
	q.short = binary.BigEndian.AppendUint32(q.short, uint32(5+len(body)+len(data)))
	q.short = append(q.short, typ)
	q.short = binary.BigEndian.AppendUint32(q.short, id)
	q.short = append(q.short, body...)
	q.bytes += 9 + len(body) + len(data)
	if len(data) >= longLeast {
		q.long = append(q.long, longData{len(q.short), data, written})
		return
	}
	q.short = append(q.short, data...)
	if written != nil {
		written()
	}
}

// writeTo writes all.
func (q *queue) writeTo(w io.Writer) error {
	at := 0
	for _, l := range q.long {
		if l.after > at {
			if _, err := w.Write(q.short[at:l.after]); err != nil {
				return err
			}
			at = l.after
		}
		if _, err := w.Write(l.data); err != nil {
			return err
		}
		if l.written != nil {
			l.written()
		}
	}
	if at == len(q.short) {
		return nil
	}
	_, err := w.Write(q.short[at:])
	return err
}

// clear empties it and keeps its memory.
func (q *queue) clear() {
	clear(q.long) // and not the data
	q.short, q.long, q.bytes = q.short[:0], q.long[:0], 0
}
