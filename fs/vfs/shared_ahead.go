package vfs

import (
	"context"
	"path"
	"slices"
	"sync"
	"time"
)

// Who lists a folder, and then one of its subfolders, is walking through a tree,
// and would wait some round trips for each folder. So the others are listed
// ahead, breadth first. A listing is used within the timeout of names, or dropped:
// the more of them are used, the more are fetched ahead.
const (
	aheadRequests = 64   // listings ahead under way at a time
	aheadFirst    = 64   // listings that may be waiting to be used, at first
	aheadLeast    = 16   // when many were dropped unused
	aheadMany     = 1024 // when all are used
	aheadGrowth   = 4    // by so many for each that is used
	aheadQueue    = 4096 // folders to be listed
	walkMemory    = 64   // folders that programs have listed, by which a walk is known

	// aheadEntries bounds a listing that nobody has asked for, and so what a node
	// can have kept in memory: larger folders are left to who lists them.
	aheadEntries = 2048
	// behindLooks is how many names of a folder are looked up, since it was listed
	// or is known, before it is listed behind.
	behindLooks = 3
	// behindLeast is the round-trip time from which on that is worth the listing of
	// any folder; below, as many lookups as a behindShare-th of its names are.
	behindLeast = 2 * time.Millisecond
	behindShare = 8

	// nextLeft is how many names are left of a folder that is being emptied when the next one
	// is listed: what they take together is about as long as a listing.
	nextLeft = 4
)

// aheadOf is the state of listing ahead; nameCache.mu guards it.
type aheadOf struct {
	listed   []string // by programs, the last ones
	queue    []string
	window   int
	unused   int // listed ahead and neither used nor dropped
	running  int
	last     time.Time           // when a program last listed a folder of a walk
	removed  time.Time           // when a folder was last removed that a program had listed
	refused  map[string]struct{} // folders that could not be listed, or are too large
	renewing map[string]struct{} // paths whose attributes are asked for, and folders with a "/" behind that are listed
	tasks    sync.WaitGroup
	closed   bool
}

func (a *aheadOf) init() {
	a.window, a.refused, a.renewing = aheadFirst, map[string]struct{}{}, map[string]struct{}{}
}

// refuse notes that a folder is not worth another try for a while.
func (a *aheadOf) refuse(p string) {
	if len(a.refused) >= aheadQueue {
		clear(a.refused)
	}
	a.refused[p] = struct{}{}
}

func (a *aheadOf) used() {
	a.unused--
	a.window = min(a.window+aheadGrowth, aheadMany)
}

func (a *aheadOf) wasted() {
	a.unused--
	a.window = max(a.window/2, aheadLeast)
}

// walked notes that a program lists the folder p, and reports whether it is
// walking through the tree.
func (a *aheadOf) walked(p string) bool {
	above := path.Dir(p)
	walk := slices.Contains(a.listed, above)
	a.listed = slices.DeleteFunc(a.listed, func(l string) bool { return l == p || l == above })
	if a.listed = append(a.listed, p); walk && above != p {
		a.listed = append(a.listed, above) // it is as recent, however many are below
	}
	if len(a.listed) > walkMemory {
		a.listed = slices.Delete(a.listed, 0, len(a.listed)-walkMemory)
	}
	return walk
}

// listAhead has the folders beside and below p listed if a program that lists p is
// walking through the tree.
func (s *Shared) listAhead(p string) {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &c.ahead
	if c.noAhead || a.closed || !a.walked(p) {
		return
	}
	if now := time.Now(); now.Sub(a.last) > c.dir {
		a.queue, a.last = nil, now // what is left of another walk
		clear(a.refused)
	} else {
		a.last = now
	}
	c.room(a.last)
	if time.Since(a.removed) < c.dir { // it comes to those beside p late, see emptied
		c.queueAhead(p, 1)
	} else {
		c.queueAhead(path.Dir(p), aheadQueue)
		c.queueAhead(p, aheadQueue)
	}
	s.startAhead()
}

// queueAhead queues the first subfolders of a folder that are not known; mu is held.
func (c *nameCache) queueAhead(p string, most int) {
	d := c.dirs[p]
	if d == nil {
		return
	}
	a := &c.ahead
	var subs []string
	for name, n := range d.names {
		if n.st.Permissions&TypeMask == TypeDir {
			subs = append(subs, path.Join(p, name))
		}
	}
	slices.Sort(subs)
	subs = subs[:min(len(subs), most)]
	now := time.Now()
	queued := make(map[string]struct{}, len(a.queue))
	for _, q := range a.queue {
		queued[q] = struct{}{}
	}
	for _, sub := range subs {
		if known := c.dirs[sub]; known != nil && now.Sub(known.listed) < c.dir {
			continue
		}
		_, waits := queued[sub]
		if _, refused := a.refused[sub]; waits || refused || c.loading[sub] != nil {
			continue
		}
		if len(a.queue) >= aheadQueue {
			return
		}
		a.queue = append(a.queue, sub)
	}
}

// startAhead starts what may be fetched now; mu is held.
func (s *Shared) startAhead() {
	a := &s.cache.ahead
	for !a.closed && a.running < aheadRequests && a.running+a.unused < a.window && len(a.queue) > 0 {
		p := a.queue[0]
		a.queue = a.queue[1:]
		if d := s.cache.dirs[p]; d != nil && time.Since(d.listed) < s.cache.dir || s.cache.loading[p] != nil {
			continue
		}
		a.running++
		a.tasks.Go(func() { s.ahead(p, true) })
	}
}

// ahead lists one folder ahead, or behind who looks up its names; an error is for
// who asks for it himself.
func (s *Shared) ahead(p string, walk bool) {
	ok, refused := false, false
	if rlock(s.link.ctx, s.names) == nil { // while no folder moves
		if f, mine := s.cache.beginList(p); mine {
			names, err := s.readNames(context.Background(), p, aheadEntries)
			ok, refused = err == nil, err != nil && !isLost(err)
			if ok {
				s.cache.putList(f, names, walk, s.view.Follow)
			}
			s.cache.end(f)
		}
		s.names.Release(1)
	}
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead.running--
	if refused {
		c.ahead.refuse(p)
	}
	if ok && walk && time.Since(c.ahead.removed) >= c.dir {
		c.queueAhead(p, aheadQueue)
	}
	s.startAhead()
}

// listBehind is told of each name that is looked up in a folder, or removed. Who looks
// up one after the other, which are there or not, would wait a round trip for each that is
// not known, or not any more: so the folder is listed behind, and again before that
// listing is too old. One that is there and asked for again and again does not count.
func (s *Shared) listBehind(dir, name string, found found) {
	c := s.cache
	rtt := s.link.metrics.rtt.read()
	if c.noAhead || c.attr <= 0 || rtt > c.dir/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	d, a := c.dirs[dir], &c.ahead
	if d == nil {
		d = c.at(dir, now)
	}
	if name != d.last || found != present {
		d.looks++
	}
	d.last = name
	least := behindLooks
	if rtt < behindLeast {
		least = max(least, len(d.names)/behindShare)
	}
	_, refused := a.refused[dir]
	if d.looks < least || now.Sub(d.listed) < c.dir/2 || refused || a.closed || c.loading[dir] != nil || a.running >= aheadRequests {
		return
	}
	d.looks = 0
	a.running++
	a.tasks.Go(func() { s.ahead(dir, false) })
}

// emptied is told of each name that is removed from a folder. Who removes a tree walks
// through it, but comes to the next folder only when this one is empty: what was listed ahead
// is too old by then. So the next one is listed when this one is nearly empty.
func (s *Shared) emptied(p string) {
	if s.link.metrics.rtt.read() < behindLeast {
		return
	}
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	a, now := &c.ahead, time.Now()
	dir := path.Dir(p)
	if slices.Contains(a.listed, p) {
		a.removed = now
	}
	if c.noAhead || a.closed || !slices.Contains(a.listed, dir) {
		return
	}
	d := c.dirs[dir]
	if d == nil || len(d.names) > nextLeft || a.running >= aheadRequests {
		return
	}
	next, ok := c.folderAfter(dir)
	if _, refused := a.refused[next]; !ok || refused || c.loading[next] != nil {
		return
	}
	if known := c.dirs[next]; known != nil && now.Sub(known.listed) < c.dir/2 {
		return
	}
	a.running++
	a.tasks.Go(func() { s.ahead(next, true) })
	s.renew(next, now)
}

// folderAfter is the folder that who walks through the tree comes to after dir and what is
// in it, as far as is known; mu is held.
func (c *nameCache) folderAfter(dir string) (next string, ok bool) {
	for {
		above := path.Dir(dir)
		if above == dir || !slices.Contains(c.ahead.listed, above) || c.dirs[above] == nil {
			return "", false
		}
		for name, n := range c.dirs[above].names {
			if n.st.Permissions&TypeMask == TypeDir && name > path.Base(dir) && (!ok || name < next) {
				next, ok = name, true
			}
		}
		if ok {
			return path.Join(above, next), true
		}
		dir = above
	}
}

// endAhead waits for what is under way, after the link was closed.
func (s *Shared) endAhead() {
	s.cache.mu.Lock()
	s.cache.ahead.closed = true
	s.cache.mu.Unlock()
	s.cache.ahead.tasks.Wait()
}
