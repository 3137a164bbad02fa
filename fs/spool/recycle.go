package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	// maxFree is how many empty files are kept for new data.
	maxFree = 4096
	// maxRecycled is the size, in bytes, up to which a data file is emptied and
	// kept instead of deleted.
	maxRecycled = 1 << 20
	freePrefix  = "free-"
)

// freeFiles are data files whose data was removed: they are kept, empty, and
// get the name of the next new one. A spool makes and removes files all the
// time, and ext4 does not give the inode of a deleted file to a new one for
// minutes; looking for another one then costs up to a millisecond of CPU, a
// rename a hundredth of that.
type freeFiles struct {
	dir string

	mu    sync.Mutex // guards the fields below
	names []string   // paths of empty files
	made  int        // names given so far
}

// clear deletes what an earlier process has left. The files may not be empty
// after a power loss, so they are not used.
func (p *freeFiles) clear(names []string) error {
	for _, name := range names {
		if strings.HasPrefix(name, freePrefix) {
			if err := os.Remove(filepath.Join(p.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// take gives a free file the name path; false if there is none.
func (p *freeFiles) take(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.names)
	if n == 0 {
		return false
	}
	name := p.names[n-1]
	p.names = p.names[:n-1]
	return os.Rename(name, path) == nil
}

// proveEmpty sees to it that a recycled file holds no data of another id, even
// if calls for one id raced in a way that callers should not let them.
func proveEmpty(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
	}
	return err
}

// put empties a data file and keeps it under another name, or deletes it. The
// caller has seen to it that nobody else uses it.
func (p *freeFiles) put(f *os.File) error {
	path := f.Name()
	if info, err := f.Stat(); err == nil && info.Size() <= maxRecycled && p.keep(f) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (p *freeFiles) keep(f *os.File) bool {
	p.mu.Lock()
	full := len(p.names) >= maxFree
	p.made++
	name := filepath.Join(p.dir, fmt.Sprintf("%s%08x", freePrefix, p.made))
	p.mu.Unlock()
	if full || f.Truncate(0) != nil || os.Rename(f.Name(), name) != nil {
		return false
	}
	p.mu.Lock()
	p.names = append(p.names, name)
	p.mu.Unlock()
	return true
}

// close deletes the free files.
func (p *freeFiles) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range p.names {
		os.Remove(name) // what cannot be deleted is tried again at the next Open
	}
	p.names = nil
}
