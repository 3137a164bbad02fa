package vfs

import (
	"context"
	"path"
	"time"

	"bundlefs/internal/sftpwire"
)

// The kernel asks for each folder on the way to a file again when the time of what it knows
// is over, and a program that works in a folder over a slow link would wait for them, one
// after the other. So what is known of a folder that is used is renewed behind, before it
// is too old; and a change of its names, which makes its size and time others, brings its
// attributes along.

// renewMost is how many names a folder has at most that is listed again because one of its
// subfolders is used.
const renewMost = 64

// renews reports whether that is worth it: over a fast link it is of no use, and over one
// that is very slow the answer is too old when it comes.
func (s *Shared) renews() bool {
	rtt := s.link.metrics.rtt.read()
	return s.cache.attr > 0 && rtt >= behindLeast && rtt <= s.cache.attr/4
}

// used is told that a name in the folder dir is used, with the locks on it held.
func (s *Shared) used(dir *node) {
	if !s.renews() {
		return
	}
	way := s.tree.way(dir)
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	now, inTime := time.Now(), s.link.metrics.rtt.read() <= s.cache.dir/8 // a listing takes three round trips
	for _, p := range way {
		if !inTime || !s.renewNames(path.Dir(p), now) { // which tells the attributes as well
			s.renew(p, now)
		}
	}
}

// renew has the attributes of a path asked for behind, unless they are new; cache.mu is held.
func (s *Shared) renew(p string, now time.Time) {
	c := s.cache
	a := &c.ahead
	if n := c.dirs[path.Dir(p)].get(path.Base(p)); n != nil && now.Sub(n.asked) < c.attr/2 {
		return
	}
	if _, asked := a.renewing[p]; asked || a.closed || a.running >= aheadRequests {
		return
	}
	a.renewing[p] = struct{}{}
	a.running++
	// It begins here, under the caller's lock: a folder that is moved from now on makes the answer void.
	f := c.beginLocked(path.Dir(p))
	a.tasks.Go(func() {
		if st, err := s.lstat(s.link.ctx, p); err == nil {
			c.put(f, path.Base(p), st)
		}
		c.end(f)
		c.mu.Lock()
		defer c.mu.Unlock()
		a.running--
		delete(a.renewing, p)
		s.startAhead()
	})
}

// renewNames has a small folder of which all names were known listed again behind, unless
// that is new, and reports whether it is being listed. Who works in a subfolder comes back
// for the next one. cache.mu is held.
func (s *Shared) renewNames(p string, now time.Time) bool {
	c := s.cache
	a, d := &c.ahead, c.dirs[p]
	if c.loading[p] != nil {
		return true
	}
	if c.noAhead || d == nil || d.listed.IsZero() || now.Sub(d.listed) < c.dir/2 || len(d.names) > renewMost {
		return false
	}
	key := p + "/"
	if _, asked := a.renewing[key]; asked || a.closed || a.running >= aheadRequests {
		return asked
	}
	a.renewing[key] = struct{}{}
	a.running++
	a.tasks.Go(func() {
		s.ahead(p, false)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(a.renewing, key)
	})
	return true
}

// way gives the paths of a folder and of those above it, without the root's.
func (t *tree) way(dir *node) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.pathLocked(dir)
	if !ok {
		return nil
	}
	var way []string
	for n := dir; n.ino != RootIno; n = n.links[0].parent {
		way = append(way, p)
		p = path.Dir(p)
	}
	return way
}

// folderLook is a question for the attributes of a folder that is sent right behind a
// request which changes its names, and so answered after it: servers answer in order. One
// that does not may have the folder shown with size and time as they were before, for as
// long as attributes are believed.
type folderLook struct {
	s    *Shared
	dir  *node
	path string
	f    *fetch // nil: nothing is asked
	st   *sftpwire.Stat
}

// folderLooks are those of one change. Its folders' names are locked from look to end.
type folderLooks []*folderLook

// look prepares the question about the folder dir, in which p is changed.
func (s *Shared) look(dir *node, p string) *folderLook {
	l := &folderLook{s: s, dir: dir, path: path.Dir(p)}
	if s.renews() {
		l.f = s.cache.begin(path.Dir(l.path))
	}
	return l
}

// ask sends the questions. What it returns waits for the answers, and is called when the
// change was made.
func (looks folderLooks) ask(wire *sftpwire.Session) (told func()) {
	answers := make([]sftpwire.StatRequest, len(looks))
	for i, l := range looks {
		switch {
		case l.f == nil:
		case l.s.view.Follow: // it may be a link that is followed
			answers[i] = wire.Stat(l.path)
		default:
			answers[i] = wire.Lstat(l.path)
		}
	}
	return func() {
		for i, l := range looks {
			if l.f == nil {
				continue
			}
			if st, err := stated(answers[i]); err == nil && saneMode(st.Permissions)&TypeMask == TypeDir {
				l.st = st
			}
		}
	}
}

// send sends a change and the questions behind it, and waits for all.
func (looks folderLooks) send(wire *sftpwire.Session, change func() sftpwire.Request) error {
	sent, told := change(), looks.ask(wire)
	err := sent.Wait(context.Background())
	if err == nil {
		told()
	}
	return err
}

// changed notes that the change was made: in the tree by then, which may be nil, and in what
// is known of the folders, unless something else has changed them meanwhile.
func (looks folderLooks) changed(then func(t *tree)) {
	t := looks[0].s.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range looks {
		if l.st != nil && t.cache.wasChanged(l.f, path.Base(l.path)) {
			l.st = nil
		}
	}
	if then != nil {
		then(t)
	}
	for _, l := range looks {
		t.touchLocked(l.dir)
		if l.st != nil {
			t.toldLocked(l.f, path.Base(l.path), l.st)
		}
		l.dir = nil
	}
}

// end ends the questions. Where nobody knows what came of the change, the attributes of the
// folders are not known.
func (looks folderLooks) end() {
	for _, l := range looks {
		if l.dir != nil {
			l.s.tree.touch(l.dir)
		}
		if l.f != nil {
			l.s.cache.end(l.f)
		}
	}
}
