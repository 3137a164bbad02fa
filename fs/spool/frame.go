package spool

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

const (
	fileMagic   = "bfsjrnl\x01"
	fileHeader  = 8 + 8 + 4
	frameMagic  = "bFr\xa7"
	frameHeader = 4 + 4 + 8 + 4 + 4

	// MaxRecords is the most that one Append or AppendAll may carry, in bytes,
	// with the length before each record (at most 10 bytes).
	MaxRecords = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBad is a frame that is not whole or not valid; it never leaves the package.
var errBad = errors.New("bad frame")

// salt makes the frames of one journal file its own.
type salt [8]byte

// newHeader makes the header of a new journal file, and its salt.
func newHeader() ([]byte, salt) {
	var s salt
	rand.Read(s[:]) // never fails: crypto/rand ends the program instead
	h := append([]byte(fileMagic), s[:]...)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli)), s
}

// parseHeader reads a file header of fileHeader bytes; false if it is not valid.
func parseHeader(h []byte) (salt, bool) {
	if len(h) != fileHeader || string(h[:8]) != fileMagic ||
		crc32.Checksum(h[:16], castagnoli) != binary.LittleEndian.Uint32(h[16:]) {
		return salt{}, false
	}
	return salt(h[8:16]), true
}

// headerSum is the checksum of the first 16 bytes of a frame's header.
func (s *salt) headerSum(h []byte) uint32 {
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, h[:16])
}

// appendFrame appends a frame with the payloads to b.
func (s *salt) appendFrame(b []byte, seq uint64, payloads ...[]byte) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = append(b, make([]byte, frameHeader-len(frameMagic))...)
	for _, p := range payloads {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	h, body := b[start:start+frameHeader], b[start+frameHeader:]
	binary.LittleEndian.PutUint32(h[4:], uint32(len(body)))
	binary.LittleEndian.PutUint64(h[8:], seq)
	sum := s.headerSum(h)
	binary.LittleEndian.PutUint32(h[16:], sum)
	binary.LittleEndian.PutUint32(h[20:], crc32.Update(sum, castagnoli, body))
	return b
}

// frame is what the header of a frame says.
type frame struct {
	seq     uint64
	length  int64 // of the body
	sum     uint32
	bodySum uint32
}

// parseFrame reads a frame's header from the first frameHeader bytes of h.
func (s *salt) parseFrame(h []byte) (frame, bool) {
	if string(h[:4]) != frameMagic {
		return frame{}, false
	}
	f := frame{
		length:  int64(binary.LittleEndian.Uint32(h[4:])),
		seq:     binary.LittleEndian.Uint64(h[8:]),
		sum:     binary.LittleEndian.Uint32(h[16:]),
		bodySum: binary.LittleEndian.Uint32(h[20:]),
	}
	return f, f.length > 0 && f.length <= MaxRecords && f.sum == s.headerSum(h)
}

// readFrame reads the frame that r stands before. left is the number of bytes
// up to the end of the file. The body is put into buf, which grows if needed.
// A frame that is not whole, valid and the one with sequence seq gives errBad;
// other errors come from reading.
func (s *salt) readFrame(r *bufio.Reader, left int64, seq uint64, buf []byte) ([]byte, error) {
	if left < frameHeader {
		return buf, errBad
	}
	h, err := r.Peek(frameHeader)
	if err != nil {
		return buf, err
	}
	f, ok := s.parseFrame(h)
	r.Discard(frameHeader) // they are in the buffer: it cannot fail
	if !ok || f.seq != seq || f.length > left-frameHeader {
		return buf, errBad
	}
	if int64(cap(buf)) < f.length {
		buf = make([]byte, f.length)
	}
	buf = buf[:f.length]
	if _, err := io.ReadFull(r, buf); err != nil {
		return buf, err
	}
	if crc32.Update(f.sum, castagnoli, buf) != f.bodySum {
		return buf, errBad
	}
	return buf, nil
}

// nextRecord takes the first record off a body; false if the body is malformed.
func nextRecord(body []byte) (payload, rest []byte, ok bool) {
	n, w := binary.Uvarint(body)
	if w <= 0 || n > uint64(len(body)-w) {
		return nil, nil, false
	}
	body = body[w:]
	return body[:n:n], body[n:], true
}

// findFrame looks in r, size bytes long, at or after off, for a valid frame
// with a sequence of at least seq, and returns where it begins, or -1.
func (s *salt) findFrame(r io.ReaderAt, off, size int64, seq uint64) (int64, error) {
	window := make([]byte, 64<<10)
	for off+frameHeader <= size {
		w := window[:min(int64(len(window)), size-off)]
		if _, err := r.ReadAt(w, off); err != nil && err != io.EOF {
			return -1, err
		}
		// A frame's header must lie wholly in the window; the last bytes are
		// looked at again at the beginning of the next one.
		last := len(w) - frameHeader
		for i := 0; i <= last; i++ {
			k := bytes.Index(w[i:last+len(frameMagic)], []byte(frameMagic))
			if k < 0 {
				break
			}
			i += k
			f, ok := s.parseFrame(w[i : i+frameHeader])
			at := off + int64(i)
			if !ok || f.seq < seq || at+frameHeader+f.length > size {
				continue
			}
			sum := &checksum{sum: f.sum}
			if _, err := io.Copy(sum, io.NewSectionReader(r, at+frameHeader, f.length)); err != nil {
				return -1, err
			}
			if sum.sum == f.bodySum {
				return at, nil
			}
		}
		off += int64(last) + 1
	}
	return -1, nil
}

// checksum is a writer that adds up what is written to it.
type checksum struct{ sum uint32 }

func (c *checksum) Write(p []byte) (int, error) {
	c.sum = crc32.Update(c.sum, castagnoli, p)
	return len(p), nil
}
