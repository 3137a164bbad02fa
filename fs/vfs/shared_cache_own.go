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

// exists notes that there is such a name.
func (c *nameCache) exists(p string, mode uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, name := path.Dir(p), path.Base(p)
	d := c.dirs[dir]
	n := d.get(name)
	if n != nil && n.st.Permissions&TypeMask == mode&TypeMask {
		return
	}
	c.touch(dir, name) // who lists the folder now may not know it
	if d == nil {
		return
	}
	if n == nil {
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

// gone forgets a name of which the node says that there is none.
func (c *nameCache) gone(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.dirs[path.Dir(p)]; d.get(path.Base(p)) != nil {
		delete(d.names, path.Base(p))
		c.count--
	}
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
