package vfs

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"bundlefs/internal/sftpwire"
)

// A program that lists a long folder and looks at each name takes longer than what was listed
// is believed, and the folder is too large to be asked for again. So the attributes of such a
// listing are good for the first lookup of each name, as long as the program keeps going.

const (
	// scanLeast is how many names a folder has at least whose listing is kept for lookups.
	scanLeast = 2049
	// scanPerName is how long a listing is kept at most, for each of its names: a program
	// that is slower than this asks the node.
	scanPerName = 200 * time.Microsecond
)

// scan is the listing of a long folder that lookups follow.
type scan struct {
	f      *fetch          // notes what is changed here since
	names  []sftpwire.Name // sorted
	looked []bool          // per name: it was looked up
	last   time.Time       // when it was last used
	end    *time.Timer     // drops it
}

// putScan keeps the listing that f asked for, whose names are sorted. All scans together have
// at most maxEntries names.
func (c *nameCache) putScan(f *fetch, names []sftpwire.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropScan(f.dir)
	if f.dead || c.attr <= 0 || len(names) < scanLeast {
		return
	}
	total := len(names)
	for _, s := range c.scans {
		total += len(s.names)
	}
	for dir, s := range c.scans {
		if total <= maxEntries {
			break
		}
		total -= len(s.names)
		c.dropScan(dir)
	}
	s := &scan{
		f:     &fetch{dir: f.dir, asked: f.asked, changed: maps.Clone(f.changed)},
		names: names, looked: make([]bool, len(names)), last: time.Now(),
	}
	c.fetches[s.f] = struct{}{}
	c.scans[f.dir] = s
	s.end = time.AfterFunc(c.attr+time.Duration(len(names))*scanPerName, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.scans[s.f.dir] == s {
			c.dropScan(s.f.dir)
		}
	})
}

// dropScan forgets the scan of a folder; mu is held.
func (c *nameCache) dropScan(dir string) {
	if s := c.scans[dir]; s != nil {
		s.end.Stop()
		delete(c.fetches, s.f)
		delete(c.scans, dir)
	}
}

// scanOf returns the scan of a folder while it is in use; mu is held.
func (c *nameCache) scanOf(dir string) *scan {
	s := c.scans[dir]
	if s == nil {
		return nil
	}
	now := time.Now()
	if s.f.dead || now.Sub(s.last) >= c.attr || len(s.f.changed) > len(s.names) {
		c.dropScan(dir)
		return nil
	}
	s.last = now
	return s
}

// scanned gives the attributes that a path was listed with, once.
func (c *nameCache) scanned(p string, follow bool) (*sftpwire.Stat, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.scanOf(path.Dir(p))
	if s == nil {
		return nil, false
	}
	name := path.Base(p)
	i, ok := slices.BinarySearchFunc(s.names, name, func(n sftpwire.Name, name string) int { return strings.Compare(n.Name, name) })
	if !ok || s.looked[i] {
		return nil, false
	}
	if _, changed := s.f.changed[name]; changed || follow && s.names[i].Stat.Permissions&TypeMask == TypeSymlink {
		return nil, false
	}
	s.looked[i] = true
	st := s.names[i].Stat
	return &st, true
}

// scanning reports whether the scan of a folder is in use.
func (c *nameCache) scanning(dir string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scanOf(dir) != nil
}
