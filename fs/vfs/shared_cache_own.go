package vfs

import (
	"path"
	"strings"
	"time"
)

// The methods here tell the cache what this mount has changed on the node. The
// tree calls them, with its lock held.

// stale forgets the attributes of a path, which has its name still.
func (c *nameCache) stale(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, name := path.Dir(p), path.Base(p)
	c.touch(dir, name)
	if n := c.dirs[dir].get(name); n != nil {
		n.asked, n.targetAt = time.Time{}, time.Time{}
	}
}

// wasChanged reports whether a name that a question is about was changed since.
func (c *nameCache) wasChanged(f *fetch, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, changed := f.changed[name]
	return changed || f.dead
}

// names notes that names in a folder were changed: by what exists, removed and
// renamed tell of. What is asked about it now may not know them.
func (c *nameCache) names(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.fetches {
		if f.dir == dir {
			f.dead = true
		}
	}
}

// exists notes that there is such a name.
func (c *nameCache) exists(p string, mode uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, name := path.Dir(p), path.Base(p)
	d := c.dirs[dir]
	n := d.get(name)
	switch {
	case d == nil, n != nil && n.st.Permissions&TypeMask == mode&TypeMask:
		return
	case n == nil:
		c.touch(dir, name)
		n = c.set(d, name)
	}
	*n = cachedName{}
	n.st.Permissions = mode & TypeMask
}

// removed notes that there is no such name any more, and nothing below it.
func (c *nameCache) removed(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removedLocked(p)
}

func (c *nameCache) removedLocked(p string) {
	dir, name := path.Dir(p), path.Base(p)
	c.touch(dir, name)
	if d := c.dirs[dir]; d.get(name) != nil {
		delete(d.names, name)
		c.count--
	}
}

// belowLocked forgets all of a folder, and of those in it.
func (c *nameCache) belowLocked(p string) {
	inside := strings.TrimSuffix(p, "/") + "/"
	for dir, d := range c.dirs {
		if dir == p || strings.HasPrefix(dir, inside) {
			c.drop(dir, d)
		}
	}
	for f := range c.fetches {
		if f.dir == p || strings.HasPrefix(f.dir, inside) {
			f.dead = true
		}
	}
}

// renamed notes that what had one name has the other, of a folder if isDir is set.
func (c *nameCache) renamed(from, to string, isDir bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.dirs[path.Dir(from)].get(path.Base(from))
	c.removedLocked(from)
	c.removedLocked(to)
	if d := c.dirs[path.Dir(to)]; d != nil {
		moved := c.set(d, path.Base(to))
		if n != nil {
			*moved = *n
		}
	}
	if isDir {
		c.belowLocked(from)
		c.belowLocked(to)
	}
}

// doubt forgets what is known of a name: a change of it has failed, and nobody
// knows how far it came.
func (c *nameCache) doubt(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removedLocked(p)
	if d := c.dirs[path.Dir(p)]; d != nil {
		d.listed = time.Time{}
	}
	c.belowLocked(p)
}

// empty notes a folder that was made a moment ago.
func (c *nameCache) empty(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.belowLocked(p)
	if c.dir > 0 {
		now := time.Now()
		c.at(p, now).listed = now
		c.room(now)
	}
}
