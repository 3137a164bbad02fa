package spool

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
)

// maxOpen is how many data files are open at once.
const maxOpen = 128

// dataDir is the folder of data files and the cache of their descriptors.
type dataDir struct {
	path     string
	unsynced atomic.Bool // a name was made since the folder was synced
	free     freeFiles

	// mu guards everything below and the fields of each dataFile but file.
	mu     sync.Mutex
	freed  sync.Cond // on mu: a file is no longer in use
	files  map[uint64]*dataFile
	idle   list.List // of *dataFile not in use, the least recently used in front
	opened int       // files in the map, and removed ones still in use
	closed bool
}

// dataFile is one data file with its descriptor.
type dataFile struct {
	id      uint64
	users   int           // calls in progress
	idle    *list.Element // in dataDir.idle while users is 0
	removed bool          // no longer in the map: closed by its last user
	going   bool          // being removed by its only user: others wait

	openMu sync.Mutex // guards file while there are users; never taken under dataDir.mu
	file   *os.File   // nil until first opened
}

// openDataDir uses the folder at path, which is there.
func openDataDir(path string) (*dataDir, error) {
	d := &dataDir{path: path, free: freeFiles{dir: path}, files: make(map[uint64]*dataFile)}
	d.freed.L = &d.mu
	d.idle.Init()
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	return d, d.free.clear(names)
}

// name is the path of the data file of id.
func (d *dataDir) name(id uint64) string {
	return filepath.Join(d.path, fmt.Sprintf("%016x", id))
}

// parseID turns the name of a data file into its id; false for other names.
func parseID(name string) (uint64, bool) {
	if len(name) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(name, 16, 64)
	return id, err == nil && fmt.Sprintf("%016x", id) == name
}

// take returns the entry of id and counts the caller as one of its users. It
// closes the file longest unused when there are too many, and waits when all
// are in use; users never wait for another file, so that ends.
// The caller holds mu.
func (d *dataDir) take(id uint64) (*dataFile, error) {
	for {
		if d.closed {
			return nil, closedError("open", d.name(id))
		}
		if f := d.files[id]; f != nil {
			if f.going {
				d.freed.Wait()
				continue
			}
			if f.users == 0 {
				d.idle.Remove(f.idle)
				f.idle = nil
			}
			f.users++
			return f, nil
		}
		if d.opened < maxOpen {
			f := &dataFile{id: id, users: 1}
			d.files[id] = f
			d.opened++
			return f, nil
		}
		if e := d.idle.Front(); e != nil {
			d.drop(e.Value.(*dataFile))
			continue
		}
		d.freed.Wait()
	}
}

// drop takes an unused entry out and closes its file. The caller holds mu.
func (d *dataDir) drop(f *dataFile) {
	delete(d.files, f.id)
	if f.idle != nil {
		d.idle.Remove(f.idle)
		f.idle = nil
	}
	d.opened--
	if f.file != nil {
		// Every write has been checked; close of a local file has nothing to add.
		f.file.Close()
	}
}

// release ends what take began.
func (d *dataDir) release(f *dataFile) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.users--
	f.going = false // only set while there is one user
	if f.users > 0 {
		return
	}
	switch {
	case f.removed:
		d.opened--
		if f.file != nil {
			f.file.Close()
		}
	case f.file == nil || d.closed:
		d.drop(f)
	default:
		f.idle = d.idle.PushBack(f)
	}
	d.freed.Broadcast()
}

// with calls do with the open data file of id. A missing file is made when
// create is set, and is an error that is os.ErrNotExist otherwise.
func (d *dataDir) with(id uint64, create bool, do func(*os.File) error) error {
	d.mu.Lock()
	f, err := d.take(id)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	defer d.release(f)
	file, err := d.open(f, create)
	if err != nil {
		return err
	}
	return do(file)
}

// open opens the file of an entry in use, once.
func (d *dataDir) open(f *dataFile, create bool) (*os.File, error) {
	f.openMu.Lock()
	defer f.openMu.Unlock()
	if f.file != nil {
		return f.file, nil
	}
	path := d.name(f.id)
	file, err := openOurs(path, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) && create {
		// Made anew also if a recycled one is removed again at this moment.
		old := d.free.take(path)
		file, err = openOurs(path, os.O_RDWR|os.O_CREATE)
		d.unsynced.Store(true)
		if err == nil && old {
			err = proveEmpty(file)
		}
	}
	if err != nil {
		return nil, err
	}
	f.file = file
	return file, nil
}

func (d *dataDir) writeAt(id uint64, p []byte, off int64) error {
	return d.with(id, true, func(f *os.File) error {
		_, err := f.WriteAt(p, off)
		return err
	})
}

func (d *dataDir) readAt(id uint64, p []byte, off int64) error {
	return d.with(id, false, func(f *os.File) error {
		n, err := f.ReadAt(p, off)
		if n == len(p) {
			return nil
		}
		if err == io.EOF {
			return fmt.Errorf("read %s: %d bytes at %d, got %d: %w", f.Name(), len(p), off, n, io.ErrUnexpectedEOF)
		}
		return err
	})
}

func (d *dataDir) truncate(id uint64, size int64) error {
	return d.with(id, true, func(f *os.File) error { return f.Truncate(size) })
}

func (d *dataDir) sync(id uint64) error {
	err := d.with(id, false, fdatasync)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && d.unsynced.Swap(false) {
		if err = syncDir(d.path); err != nil {
			d.unsynced.Store(true)
		}
	}
	return err
}

func (d *dataDir) remove(id uint64) error {
	d.mu.Lock()
	f, err := d.take(id)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	alone := f.users == 1
	if alone {
		f.going = true
	} else {
		// Those who use it go on with a file that has no name any more.
		delete(d.files, id)
		f.removed = true
	}
	d.mu.Unlock()
	defer d.release(f)
	// Without mu: freeing the blocks of a big file takes its time.
	if alone {
		return d.recycle(f)
	}
	if err := os.Remove(d.name(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// recycle removes the data file of an entry whose only user is the caller.
func (d *dataDir) recycle(f *dataFile) error {
	file, err := d.open(f, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.free.put(file)
	f.openMu.Lock()
	defer f.openMu.Unlock()
	file.Close()
	f.file = nil
	return err
}

// names lists what is in the folder, in no order.
func (d *dataDir) names() ([]string, error) {
	dir, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// ids lists the data files on the disk, in no order.
func (d *dataDir) ids() ([]uint64, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	ids := make([]uint64, 0, len(names))
	for _, name := range names {
		if id, ok := parseID(name); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// close closes all files and waits for those in use.
func (d *dataDir) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.freed.Broadcast()
	for e := d.idle.Front(); e != nil; e = d.idle.Front() {
		d.drop(e.Value.(*dataFile))
	}
	for d.opened > 0 {
		d.freed.Wait()
	}
	d.free.close()
}
