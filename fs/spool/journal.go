package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// CorruptError says that the journal is damaged before its end: valid records
// follow, so it is not the tail of an interrupted write. Nothing was changed.
type CorruptError struct {
	File   string // path of the journal
	Offset int64  // of the first byte that cannot be read as a frame
	Msg    string // what is wrong
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %s", e.File, e.Offset, e.Msg)
}

// Hint says what can be done.
func (e *CorruptError) Hint() string {
	return "the changes in it are kept; move the folder " + filepath.Dir(e.File) +
		" aside to go on without them"
}

// journal is the append-only file of records.
type journal struct {
	path string

	// mu guards everything below; swap is held in addition, for writing, when
	// file is replaced or closed, so that Sync can hold file with swap alone
	// and does not stop those who append. Order: mu, then swap.
	mu   sync.Mutex
	swap sync.RWMutex

	file *os.File // nil when closed; reading it needs mu or swap
	salt salt
	read bool   // the file was read to its end and is good
	torn bool   // bytes behind size could not be cut off yet
	size int64  // where the next frame goes
	seq  uint64 // of the last frame
	buf  []byte // a frame being made; kept when small

	unsynced atomic.Bool // something was appended since sync

	held   int64 // up to where the disk has room set aside for it
	noHold bool  // the file system cannot set any aside
}

// keepBuffer is how large a buffer is kept between two appends, in bytes.
const keepBuffer = 64 << 10

// openJournal opens the journal at path, and makes an empty one if there is none.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path}
	f, err := openOurs(path, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		f, err = j.create(nil)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	j.file, j.size = f, info.Size()
	return j, nil
}

// create makes a new journal with the records beside the old one, and puts it
// in its place when it is on the disk. It sets salt, seq and size, if it
// succeeds, and returns the file.
func (j *journal) create(records iter.Seq[[]byte]) (_ *os.File, err error) {
	tmp := j.path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := openOurs(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	header, salt := newHeader()
	size, seq := int64(0), uint64(0)
	w := bufio.NewWriterSize(f, 256<<10)
	if _, err := w.Write(header); err != nil {
		return nil, err
	}
	size += int64(len(header))
	if records != nil {
		var buf []byte
		for p := range records {
			if err := checkLen(p); err != nil {
				return nil, fmt.Errorf("write %s: %w", tmp, err)
			}
			seq++
			buf = salt.appendFrame(buf[:0], seq, p)
			if _, err := w.Write(buf); err != nil {
				return nil, err
			}
			size += int64(len(buf))
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, j.path); err != nil {
		return nil, err
	}
	j.salt, j.seq, j.size, j.held, j.read, j.torn = salt, seq, size, 0, true, false
	return f, nil
}

// checkLen refuses records which do not fit into one frame, or are no records.
func checkLen(payloads ...[]byte) error {
	n := 0
	for _, p := range payloads {
		n += len(p) + 10
	}
	if n > MaxRecords {
		return fmt.Errorf("records of %d bytes are more than %d", n, MaxRecords)
	}
	return nil
}

// scan reads the journal from its beginning, calls f (which may be nil) for
// each record, and cuts off a torn tail. The caller holds mu.
func (j *journal) scan(f func(payload []byte) error) error {
	if j.file == nil {
		return closedError("read", j.path)
	}
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	if j.read {
		end = j.size // what is behind it is known to be no frame
	}
	header := make([]byte, fileHeader)
	n, err := j.file.ReadAt(header, 0)
	if err != nil && err != io.EOF {
		return err
	}
	salt, ok := parseHeader(header[:n])
	if !ok && end > fileHeader {
		return &CorruptError{j.path, 0, "the header of the journal is not valid"}
	}
	if !ok {
		// No record was ever in it.
		fresh, err := j.create(nil)
		if err != nil {
			return err
		}
		j.replace(fresh)
		return nil
	}

	off, seq := int64(fileHeader), uint64(0)
	r := bufio.NewReaderSize(io.NewSectionReader(j.file, off, end-off), 256<<10)
	var body []byte
	for off < end {
		body, err = salt.readFrame(r, end-off, seq+1, body)
		if err == errBad {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s at byte %d: %w", j.path, off, err)
		}
		for rest := body; len(rest) > 0; {
			var payload []byte
			payload, rest, ok = nextRecord(rest)
			if !ok {
				return &CorruptError{j.path, off, "a valid frame holds malformed records"}
			}
			if f == nil {
				continue
			}
			if err := f(payload); err != nil {
				return err
			}
		}
		off += frameHeader + int64(len(body))
		seq++
	}
	if off < end && j.read {
		return &CorruptError{j.path, off, fmt.Sprintf("record %d can no longer be read", seq+1)}
	}
	if off < end {
		next, err := salt.findFrame(j.file, off, end, seq+1)
		if err != nil {
			return fmt.Errorf("read %s behind byte %d: %w", j.path, off, err)
		}
		if next >= 0 {
			return &CorruptError{j.path, off, fmt.Sprintf("record %d is bad, but a valid one follows at byte %d", seq+1, next)}
		}
		if err := j.file.Truncate(off); err != nil {
			return err
		}
		j.held = 0
	}
	j.salt, j.seq, j.size, j.read = salt, seq, off, true
	return nil
}

// replace puts f in the place of the journal's file. The caller holds mu.
func (j *journal) replace(f *os.File) {
	j.swap.Lock()
	old := j.file
	j.file = f
	j.swap.Unlock()
	old.Close()
}

// append writes one frame if the disk has room for it and for so many bytes more. See
// Spool.AppendKeeping.
func (j *journal) append(keep int64, payloads ...[]byte) error {
	if len(payloads) == 0 {
		return nil
	}
	if err := checkLen(payloads...); err != nil {
		return fmt.Errorf("append to %s: %w", j.path, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return closedError("append to", j.path)
	}
	if !j.read {
		if err := j.scan(nil); err != nil {
			return err
		}
	}
	if j.torn {
		if err := j.file.Truncate(j.size); err != nil {
			return err
		}
		j.torn, j.held = false, 0
	}
	b := j.salt.appendFrame(j.buf[:0], j.seq+1, payloads...)
	if cap(b) <= keepBuffer {
		j.buf = b[:0]
	}
	if keep > 0 {
		if err := j.hold(j.size + int64(len(b)) + keep); err != nil {
			return err
		}
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		j.torn, j.held = j.file.Truncate(j.size) != nil, 0
		return err
	}
	j.size += int64(len(b))
	j.seq++
	j.unsynced.Store(true)
	return nil
}

// holdStep is how much room is set aside at a time, if there is so much.
const holdStep = 256 << 10

// hold has the disk set room aside up to end, behind what the file has. The caller
// holds mu.
func (j *journal) hold(end int64) error {
	if end <= j.held || j.noHold {
		return nil
	}
	var err error
	for _, to := range []int64{(end + holdStep - 1) / holdStep * holdStep, end} {
		for {
			err = unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, j.size, to-j.size)
			if err != unix.EINTR {
				break
			}
		}
		switch err {
		case nil:
			j.held = to
			return nil
		case unix.ENOSPC, unix.EDQUOT:
			continue
		}
		j.noHold = true // an old or a foreign file system: it goes without
		return nil
	}
	return &os.PathError{Op: "fallocate", Path: j.path, Err: err}
}

// rewrite replaces all records. See Spool.Rewrite.
func (j *journal) rewrite(records iter.Seq[[]byte]) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return closedError("rewrite", j.path)
	}
	if !j.read {
		if err := j.scan(nil); err != nil {
			return err
		}
	}
	f, err := j.create(records)
	if err != nil {
		return err
	}
	j.replace(f)
	return syncDir(filepath.Dir(j.path))
}

// reset drops all records, in place: a full disk has no room for a second journal.
func (j *journal) reset() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return closedError("reset", j.path)
	}
	header, salt := newHeader()
	j.read, j.held = false, 0 // should the header not get there, there is a journal without records
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if _, err := j.file.WriteAt(header, 0); err != nil {
		return err
	}
	j.salt, j.seq, j.size, j.read, j.torn = salt, 0, int64(len(header)), true, false
	return nil
}

// sync brings the journal to the disk without stopping those who append.
func (j *journal) sync() error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	if j.file == nil {
		return closedError("sync", j.path)
	}
	j.unsynced.Store(false)
	err := fdatasync(j.file)
	if err != nil {
		j.unsynced.Store(true)
	}
	return err
}

// close closes the file; what was appended stays.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.swap.Lock()
	defer j.swap.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
