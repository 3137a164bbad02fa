package spool

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
)

// Spool is an open spool folder. Its errors name the path, and can be tested
// with errors.Is (syscall.ENOSPC, os.ErrClosed, …).
type Spool struct {
	dir     string
	journal *journal
	data    *dataDir

	// mu guards lock, and keeps Close and Destroy apart.
	mu   sync.Mutex
	lock *os.File // nil when closed
}

// Open opens the spool in the folder dir and makes it, with its parents, mode
// 0700, if it is not there. A folder of another user, one that others may
// enter, or a symlink is refused; so is a folder that a process has open,
// this one included (*LockedError).
func Open(dir string) (*Spool, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	lock, err := lockAt(dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, lock: lock}
	if err := s.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// lockAt makes the folder and locks it. It begins again when another process
// has destroyed its spool there in the meantime.
func lockAt(dir string) (lock *os.File, err error) {
	for range 10 {
		if err := makePrivate(dir); err != nil {
			return nil, err
		}
		lock, err = lockFolder(dir, filepath.Join(dir, "lock"))
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return lock, err
}

// open opens what is in the locked folder.
func (s *Spool) open() error {
	data := filepath.Join(s.dir, "data")
	if err := makePrivate(data); err != nil {
		return err
	}
	j, err := openJournal(filepath.Join(s.dir, "journal"))
	if err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		j.close()
		return err
	}
	d, err := openDataDir(data)
	if err != nil {
		j.close()
		return err
	}
	s.journal, s.data = j, d
	return nil
}

// Dir is the absolute path of the folder.
func (s *Spool) Dir() string { return s.dir }

// Replay calls f for every whole record of the journal, in the order in which
// they were appended. A torn or corrupt tail ends it and is cut off. If the
// journal is damaged in the middle, f is called for the records before the
// damage, nothing is changed, and the error is a *CorruptError. An error of f
// ends Replay and is returned as it is. The payload is only valid during the call.
func (s *Spool) Replay(f func(payload []byte) error) error {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.scan(f)
}

// Append adds one record to the journal with a single write. When it has
// returned without error the record survives kill -9. On an error the journal
// is as it was before; it wraps syscall.ENOSPC if the disk is full.
func (s *Spool) Append(payload []byte) error { return s.journal.append(0, payload) }

// AppendAll adds several records with a single write: all of them are replayed,
// or none. Together they may have MaxRecords bytes.
func (s *Spool) AppendAll(payloads ...[]byte) error { return s.journal.append(0, payloads...) }

// AppendKeeping does so if the disk then has room for so many bytes more, which is set
// aside for those that Append and AppendAll write: else the error is ENOSPC, and nothing
// was written. Where a file system cannot set room aside, it is AppendAll.
func (s *Spool) AppendKeeping(keep int64, payloads ...[]byte) error {
	return s.journal.append(keep, payloads...)
}

// Rewrite replaces all records of the journal by the given ones: it writes a
// new journal beside the old one, syncs it and renames it over the old one. On
// an error before that the old one stays; the only error after it is that the
// folder could not be synced, and then either journal is there after a power
// loss. Those who append wait meanwhile.
func (s *Spool) Rewrite(records iter.Seq[[]byte]) error { return s.journal.rewrite(records) }

// Reset drops all records without needing room on the disk for a new journal. Cut
// off in the middle it leaves a journal without records.
func (s *Spool) Reset() error { return s.journal.reset() }

// Size is the length of the journal, in bytes, with its header.
func (s *Spool) Size() int64 {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.size
}

// Empty tells whether nothing was ever appended to the journal, nor a part of a
// frame that was not finished, since it was begun.
func (s *Spool) Empty() (bool, error) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if s.journal.file == nil {
		return false, closedError("read", s.journal.path)
	}
	info, err := s.journal.file.Stat()
	return err == nil && info.Size() <= fileHeader, err
}

// Sync brings what was appended to the disk, so that it survives a power loss.
// For data files see SyncData.
func (s *Spool) Sync() error { return s.journal.sync() }

// Unsynced reports whether anything was appended since Sync was called last.
func (s *Spool) Unsynced() bool { return s.journal.unsynced.Load() }

// WriteAt writes all of p at byte off of the data file of id, which is made if
// it is missing. After an error each byte of that range is the old or the new one.
func (s *Spool) WriteAt(id uint64, p []byte, off int64) error { return s.data.writeAt(id, p, off) }

// ReadAt fills p from byte off of the data file of id. Holes read as zeros. If
// the file ends too early the error is io.ErrUnexpectedEOF, if it is missing
// os.ErrNotExist.
func (s *Spool) ReadAt(id uint64, p []byte, off int64) error { return s.data.readAt(id, p, off) }

// TruncateData sets the length of the data file of id, which is made if it is
// missing.
func (s *Spool) TruncateData(id uint64, size int64) error { return s.data.truncate(id, size) }

// SyncData brings the data file of id to the disk, so that it survives a power
// loss. If there is none, there is nothing to do.
func (s *Spool) SyncData(id uint64) error { return s.data.sync(id) }

// Remove deletes the data file of id; that it is missing is fine. Calls on the
// same id that are in progress finish on the deleted file.
func (s *Spool) Remove(id uint64) error { return s.data.remove(id) }

// DataIDs lists the data files on the disk, in no particular order.
func (s *Spool) DataIDs() ([]uint64, error) { return s.data.ids() }

// Close closes the spool and keeps all that is in it. It waits for calls in
// progress; later ones return os.ErrClosed. Closing again does nothing.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	err := s.closeFiles()
	// An empty lock file names no process any more. That is for people; the
	// lock itself ends with the descriptor.
	s.lock.Truncate(0)
	err = errors.Join(err, s.lock.Close())
	s.lock = nil
	return err
}

func (s *Spool) closeFiles() error {
	s.data.close()
	return s.journal.close()
}

// Destroy closes the spool and deletes what is in it, then the folder. Files
// that are not the spool's own are left alone, and make it fail in the end.
// After Close it fails with os.ErrClosed.
func (s *Spool) Destroy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return closedError("destroy", s.dir)
	}
	err := s.closeFiles()
	if err == nil {
		err = s.deleteAll()
	}
	// The lock is given up last: until then nobody else opens this folder.
	err = errors.Join(err, s.lock.Close())
	s.lock = nil
	return err
}

// deleteAll deletes the journal first: data without a journal is only waste,
// a journal without its data is an error at the next recovery.
func (s *Spool) deleteAll() error {
	for _, path := range []string{s.journal.path + ".new", s.journal.path, s.notePath() + ".new", s.notePath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	ids, err := s.data.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := os.Remove(s.data.name(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	lock := filepath.Join(s.dir, "lock")
	for _, path := range []string{s.data.path, lock} {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	err = os.Remove(s.dir)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, there := os.Lstat(lock); there == nil {
		return nil // somebody has made a new spool here since the lock went away
	}
	return err
}
