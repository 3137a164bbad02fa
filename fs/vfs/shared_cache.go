package vfs

import (
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"bundlefs/internal/sftpwire"
)

// CacheOptions say what shared mode remembers of names and attributes that the
// node has told, beside what the kernel does.
type CacheOptions struct {
	// Off has nothing remembered.
	Off bool
	// Attr, Link and Dir say for how long attributes, targets of links, and the
	// names in a folder are taken as true; nil means: attributes and targets for
	// AttrTimeout, names for NameTimeout.
	Attr, Link, Dir *time.Duration
	// Max is how many names are remembered; 0 means 50,000.
	Max int
	// NoAhead has no folder listed before somebody asks for it.
	NoAhead bool
}

const defaultNames = 50_000

// nameCache is what shared mode remembers of the node, by path on the node. What this
// mount changes is changed here at once: the tree tells of it. What is asked of
// the node while something is changed here is not taken over (see fetch).
type nameCache struct {
	attr, link, dir time.Duration // how long each is true
	most            int           // names
	noAhead         bool

	mu      sync.Mutex // guards what follows; taken after tree.mu
	dirs    map[string]*cachedDir
	count   int      // names in all dirs
	oldest  []*aging // dirs, roughly in the order of when they were last told of
	fetches map[*fetch]struct{}
	loading map[string]*fetch // listings under way
	scans   map[string]*scan  // listings of long folders that lookups follow
	ahead   aheadOf
}

// cachedDir is what is known of a folder's names.
type cachedDir struct {
	names  map[string]*cachedName
	listed time.Time // when all names were asked for; zero: these may not be all
	told   time.Time // when something was last added
	ahead  bool      // listed ahead, and not used yet
	looks  int       // names looked up or removed since it was made or listed
	last   string    // of these
}

// cachedName is what is known of a name.
type cachedName struct {
	st       sftpwire.Stat
	asked    time.Time // when st was asked for; zero: only its type may be true
	target   string    // of a link
	targetAt time.Time
}

// aging is a folder in the order of age.
type aging struct {
	path string
	dir  *cachedDir
	told time.Time // dir.told when it was put there
}

// fetch is a question on its way about names of one folder. What is changed
// meanwhile is not known from its answer.
type fetch struct {
	dir     string
	asked   time.Time
	changed map[string]struct{}
	dead    bool          // the folder itself was changed
	done    chan struct{} // of a listing: closed when it has ended
}

func newNameCache(o SharedOptions) *nameCache {
	or := func(d *time.Duration, other time.Duration) time.Duration {
		switch {
		case o.Cache.Off:
			return 0
		case d != nil:
			return *d
		}
		return other
	}
	c := &nameCache{
		attr: or(o.Cache.Attr, o.AttrTimeout), link: or(o.Cache.Link, o.AttrTimeout), dir: or(o.Cache.Dir, o.NameTimeout),
		most: o.Cache.Max, dirs: map[string]*cachedDir{}, fetches: map[*fetch]struct{}{}, loading: map[string]*fetch{}, scans: map[string]*scan{},
	}
	c.noAhead = o.Cache.NoAhead || c.dir <= 0
	if c.most <= 0 {
		c.most = defaultNames
	}
	c.ahead.init()
	return c
}

// begin notes a question about names in a folder, to be ended by end.
func (c *nameCache) begin(dir string) *fetch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beginLocked(dir)
}

func (c *nameCache) beginLocked(dir string) *fetch {
	f := &fetch{dir: dir, asked: time.Now()}
	c.fetches[f] = struct{}{}
	return f
}

func (c *nameCache) end(f *fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fetches, f)
	if f.done != nil {
		delete(c.loading, f.dir)
		close(f.done)
	}
}

// touch tells the questions on their way that a name was changed here.
func (c *nameCache) touch(dir, name string) {
	for f := range c.fetches {
		if f.dir == dir {
			if f.changed == nil {
				f.changed = map[string]struct{}{}
			}
			f.changed[name] = struct{}{}
		}
	}
}

// at returns the record of a folder, made if there is none; mu is held.
func (c *nameCache) at(dir string, now time.Time) *cachedDir {
	d := c.dirs[dir]
	if d == nil {
		d = &cachedDir{names: map[string]*cachedName{}}
		c.dirs[dir] = d
		c.count++ // a folder takes as much as a name
		c.oldest = append(c.oldest, &aging{dir, d, now})
	}
	d.told = now
	return d
}

// room forgets what is old, and what is oldest where there is no room; mu is held.
func (c *nameCache) room(now time.Time) {
	keep := max(c.attr, c.dir, c.link)
	for len(c.oldest) > 0 {
		a := c.oldest[0]
		gone := c.dirs[a.path] != a.dir
		again := !gone && a.dir.told.After(a.told)
		if !gone && !again && now.Sub(a.dir.told) < keep && c.count <= c.most {
			break
		}
		c.oldest[0] = nil
		c.oldest = c.oldest[1:]
		switch {
		case again:
			a.told = a.dir.told
			c.oldest = append(c.oldest, a)
		case !gone:
			c.drop(a.path, a.dir)
		}
	}
	if len(c.oldest) > 2*len(c.dirs)+64 { // most of them were dropped since
		c.oldest = slices.DeleteFunc(c.oldest, func(a *aging) bool { return c.dirs[a.path] != a.dir })
	}
}

func (c *nameCache) drop(p string, d *cachedDir) {
	delete(c.dirs, p)
	c.count -= 1 + len(d.names)
	if d.ahead {
		c.ahead.wasted()
	}
}

// put takes over attributes of a name.
func (c *nameCache) put(f *fetch, name string, st *sftpwire.Stat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, changed := f.changed[name]; changed || f.dead || c.attr <= 0 || !sane(name) { // "/" is in no folder
		return
	}
	c.set(c.at(f.dir, f.asked), name).saw(st, f.asked)
	c.room(time.Now())
}

// set returns the record of a name, made if there is none; mu is held.
func (c *nameCache) set(d *cachedDir, name string) *cachedName {
	n := d.names[name]
	if n == nil {
		n = &cachedName{}
		d.names[name] = n
		c.count++
	}
	return n
}

func (n *cachedName) saw(st *sftpwire.Stat, asked time.Time) {
	if n.asked.After(asked) {
		return
	}
	if st.Permissions != n.st.Permissions || st.Mtime != n.st.Mtime || st.Size != n.st.Size {
		n.target, n.targetAt = "", time.Time{}
	}
	n.st, n.asked = *st, asked
}

// putTarget takes over the target of a link.
func (c *nameCache) putTarget(f *fetch, name, target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, changed := f.changed[name]; changed || f.dead || c.link <= 0 {
		return
	}
	if d := c.dirs[f.dir]; d != nil && d.names[name] != nil {
		d.names[name].target, d.names[name].targetAt = target, f.asked
	}
}

// target is the target of a link, if it is known.
func (c *nameCache) target(p string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.dirs[path.Dir(p)]; d != nil {
		if n := d.names[path.Base(p)]; n != nil && time.Since(n.targetAt) < c.link {
			return n.target, true
		}
	}
	return "", false
}

// putList takes over a listing. Where follow is set, nothing but the names of
// links is.
func (c *nameCache) putList(f *fetch, names []sftpwire.Name, ahead, follow bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.dead || c.dir <= 0 || len(names) > c.most/2 {
		return
	}
	old := c.dirs[f.dir]
	if old != nil {
		c.drop(f.dir, old)
	}
	d := c.at(f.dir, f.asked)
	d.listed, d.ahead = f.asked, ahead
	for _, n := range names {
		if _, changed := f.changed[n.Name]; changed {
			continue
		}
		entry := c.set(d, n.Name)
		if was := old.get(n.Name); was != nil {
			*entry = *was
		}
		entry.saw(&n.Stat, f.asked)
		if follow && n.Stat.Permissions&TypeMask == TypeSymlink {
			entry.asked = time.Time{}
		}
	}
	if old != nil { // what was changed here meanwhile, or asked for later, is known better
		for name, was := range old.names {
			if _, changed := f.changed[name]; changed || was.asked.After(f.asked) {
				*c.set(d, name) = *was
			}
		}
	}
	if len(f.changed) > 0 && (old == nil || old.listed.IsZero()) {
		d.listed = time.Time{} // nobody knows which of the changed names exist
	}
	if ahead {
		c.ahead.unused++
	}
	c.room(time.Now())
}

// get is nil where nothing is known.
func (d *cachedDir) get(name string) *cachedName {
	if d == nil {
		return nil
	}
	return d.names[name]
}

// found is what is known of a name.
type found int

const (
	unknown found = iota
	absent
	present // with its attributes
)

// look tells what is known of a path, and since when.
func (c *nameCache) look(p string) (*sftpwire.Stat, time.Time, found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.dirs[path.Dir(p)]
	if d == nil {
		return nil, time.Time{}, unknown
	}
	now := time.Now()
	n := d.names[path.Base(p)]
	switch {
	case n == nil && now.Sub(d.listed) < c.dir:
		return nil, d.listed, absent
	case n == nil || n.asked.IsZero() || now.Sub(n.asked) >= c.attr:
		return nil, time.Time{}, unknown
	}
	st := n.st
	return &st, n.asked, present
}

// listing is a folder's names, if all are known.
type listing struct {
	names []sftpwire.Name
	asked []time.Time // per name: when its attributes were, zero if only its type is known
}

// list returns the listing of a folder, if it is known with all attributes: asking
// for the listing again costs less than asking for those of its files. Where follow
// is set, those of links are not needed.
func (c *nameCache) list(p string, follow bool) (listing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.dirs[p]
	now := time.Now()
	if d == nil || now.Sub(d.listed) >= c.dir {
		return listing{}, false
	}
	for _, n := range d.names {
		if now.Sub(n.asked) >= c.attr && !(follow && n.st.Permissions&TypeMask == TypeSymlink) {
			return listing{}, false
		}
	}
	if d.ahead {
		d.ahead = false
		c.ahead.used()
	}
	l := listing{make([]sftpwire.Name, 0, len(d.names)), make([]time.Time, 0, len(d.names))}
	for name := range d.names {
		l.names = append(l.names, sftpwire.Name{Name: name})
	}
	slices.SortFunc(l.names, func(a, b sftpwire.Name) int { return strings.Compare(a.Name, b.Name) })
	for i := range l.names {
		n := d.names[l.names[i].Name]
		l.names[i].Stat = n.st
		l.asked = append(l.asked, n.asked)
	}
	return l, true
}

// beginList notes that a folder is being listed: by the caller, who ends it, or
// by somebody else.
func (c *nameCache) beginList(p string) (f *fetch, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.loading[p]; f != nil {
		return f, false
	}
	f = c.beginLocked(p)
	f.done = make(chan struct{})
	c.loading[p] = f
	return f, true
}
