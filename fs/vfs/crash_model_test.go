package vfs_test

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
)

// opKind is what the other process is asked to do.
type opKind int

const (
	opCreate   opKind = iota // Path with Mode, opened as Handle
	opOpen                   // Path as Handle
	opClose                  // Handle
	opWrite                  // Data at Off through Handle
	opTruncate               // Handle to Off bytes
	opMkdir
	opRmdir
	opUnlink
	opRename // Path to To
	opLink   // Path, also To
	opSymlink
	opChmod
	opUtimes // Off in seconds
	opFsync  // Handle
	opSync
	opCut  // the link, and nobody answers any more
	opHeal // it
	opDump // tell the whole tree
	opRead // all of Path
	opDrop // what the node may know better
	opRetry
	opDiscard // Path
	opEnd     // close the file system and leave
)

// op is a request to the other process.
type op struct {
	Kind   opKind
	Path   string
	To     string
	Mode   uint32
	Handle int
	Off    int64
	Data   []byte
}

func (o op) String() string {
	names := [...]string{"create", "open", "close", "write", "truncate", "mkdir", "rmdir", "unlink", "rename", "link",
		"symlink", "chmod", "utimes", "fsync", "sync", "cut", "heal", "dump", "read", "drop", "retry", "discard", "end"}
	return fmt.Sprintf("%s %q %q mode %o handle %d at %d, %d bytes", names[o.Kind], o.Path, o.To, o.Mode, o.Handle, o.Off, len(o.Data))
}

// answer is what it says when the operation has returned.
type answer struct {
	Errno syscall.Errno
	Text  string // of the error
	Mtime int64  // of the file worked on
	Tree  map[string]string
	Data  []byte
}

// mfile is an inode of the model.
type mfile struct {
	typ    byte // 'd', 'f' or 'l'
	mode   uint32
	data   []byte // never changed in place
	target string
	mtime  int64 // nanoseconds; unsure: whatever is found
	kids   map[string]*mfile
}

const unsure = -1

// model is what all acknowledged operations make together.
type model struct {
	root *mfile
	open map[int]*mfile
}

func newModel() *model {
	return &model{root: &mfile{typ: 'd', kids: map[string]*mfile{}}, open: map[int]*mfile{}}
}

func (m *model) clone() *model {
	seen := map[*mfile]*mfile{}
	var copyOf func(f *mfile) *mfile
	copyOf = func(f *mfile) *mfile {
		if c := seen[f]; c != nil {
			return c
		}
		c := *f
		seen[f] = &c
		c.kids = map[string]*mfile{}
		for name, k := range f.kids {
			c.kids[name] = copyOf(k)
		}
		return &c
	}
	c := &model{root: copyOf(m.root), open: map[int]*mfile{}}
	for h, f := range m.open {
		c.open[h] = copyOf(f)
	}
	return c
}

func (m *model) find(p string) *mfile {
	f := m.root
	for name := range strings.SplitSeq(p, "/") {
		if f = f.kids[name]; f == nil {
			return nil
		}
	}
	return f
}

func (m *model) in(p string) (map[string]*mfile, string) {
	dir := m.root
	if d := path.Dir(p); d != "." {
		dir = m.find(d)
	}
	return dir.kids, path.Base(p)
}

// apply does an operation that is known to succeed. mtime is the file's afterwards.
func (m *model) apply(o op, mtime int64) {
	switch o.Kind {
	case opCreate:
		kids, name := m.in(o.Path)
		kids[name] = &mfile{typ: 'f', mode: o.Mode, mtime: mtime}
		m.open[o.Handle] = kids[name]
	case opOpen:
		m.open[o.Handle] = m.find(o.Path)
	case opClose:
		delete(m.open, o.Handle)
	case opWrite:
		f := m.open[o.Handle]
		end := int(o.Off) + len(o.Data)
		data := make([]byte, max(len(f.data), end))
		copy(data, f.data)
		copy(data[o.Off:], o.Data)
		f.data, f.mtime = data, mtime
	case opTruncate:
		f := m.open[o.Handle]
		data := make([]byte, o.Off)
		copy(data, f.data)
		f.data, f.mtime = data, mtime
	case opMkdir:
		kids, name := m.in(o.Path)
		kids[name] = &mfile{typ: 'd', mode: o.Mode, kids: map[string]*mfile{}}
	case opRmdir, opUnlink:
		kids, name := m.in(o.Path)
		delete(kids, name)
	case opRename:
		f := m.find(o.Path)
		if f == m.find(o.To) {
			return
		}
		kids, name := m.in(o.Path)
		delete(kids, name)
		kids, name = m.in(o.To)
		kids[name] = f
	case opLink:
		kids, name := m.in(o.To)
		kids[name] = m.find(o.Path)
	case opSymlink:
		kids, name := m.in(o.Path)
		kids[name] = &mfile{typ: 'l', mode: 0o777, target: o.To, mtime: unsure}
	case opChmod:
		m.find(o.Path).mode = o.Mode
	case opUtimes:
		m.find(o.Path).mtime = o.Off * 1e9
	}
}

// describe lists a tree: a line a path, which says all but the time.
func (m *model) describe() (lines map[string]string, times map[string]*mfile) {
	lines, times = map[string]string{}, map[string]*mfile{}
	links := map[*mfile]int{}
	var count func(f *mfile)
	count = func(f *mfile) {
		for _, k := range f.kids {
			links[k]++
			count(k)
		}
	}
	count(m.root)
	var walk func(p string, f *mfile)
	walk = func(p string, f *mfile) {
		for name, k := range f.kids {
			at := path.Join(p, name)
			switch k.typ {
			case 'd':
				lines[at] = fmt.Sprintf("d %o", k.mode)
				walk(at, k)
			case 'l':
				lines[at] = "l " + k.target
			case 'f':
				lines[at] = describeFile(k.mode, links[k], k.data)
				times[at] = k
			}
		}
	}
	walk("", m.root)
	return lines, times
}

func describeFile(mode uint32, links int, data []byte) string {
	h := fnv.New64a()
	h.Write(data)
	return fmt.Sprintf("f %o links %d size %d sum %x", mode, links, len(data), h.Sum64())
}

// splitTime takes the time off a line of a dump.
func splitTime(line string) (rest, mtime string) {
	rest, mtime, _ = strings.Cut(line, " mtime ")
	return rest, mtime
}

// differences compares a dump with the model, times in whole seconds.
func (m *model) differences(dump map[string]string) []string {
	want, times := m.describe()
	var l []string
	for p, line := range dump {
		got, mtime := splitTime(line)
		if got != want[p] {
			l = append(l, fmt.Sprintf("%s: is %q, should be %q", p, got, want[p]))
		} else if f := times[p]; f != nil && f.mtime != unsure && mtime != fmt.Sprint(f.mtime/1e9) {
			l = append(l, fmt.Sprintf("%s: mtime is %s, should be %d", p, mtime, f.mtime/1e9))
		}
	}
	for p, line := range want {
		if _, ok := dump[p]; !ok {
			l = append(l, fmt.Sprintf("%s: is not there, should be %q", p, line))
		}
	}
	slices.Sort(l)
	return l
}

// adoptTimes takes over the times of a dump that were not known.
func (m *model) adoptTimes(dump map[string]string) {
	_, times := m.describe()
	for p, f := range times {
		if f.mtime == unsure {
			var s int64
			_, text := splitTime(dump[p])
			fmt.Sscan(text, &s)
			f.mtime = s * 1e9
		}
	}
}

// mixed tells whether data is what a write that was cut off can have left: each
// byte of the range old or new, the rest old.
func mixed(data, before, after []byte, off, end int) bool {
	if len(data) != len(before) && len(data) != len(after) {
		return false
	}
	at := func(b []byte, i int) byte {
		if i < len(b) {
			return b[i]
		}
		return 0
	}
	for i, c := range data {
		if c != at(before, i) && (i < off || i >= end || c != at(after, i)) {
			return false
		}
	}
	return true
}

// chooser picks operations at random that succeed on the model.
type chooser struct {
	*rand.Rand
	m      *model
	handle int
	cut    bool
	most   int // length of a write; 0: big ones too
}

func (c *chooser) paths(typ byte) []string {
	var l []string
	var walk func(p string, f *mfile)
	walk = func(p string, f *mfile) {
		for _, name := range slices.Sorted(maps.Keys(f.kids)) {
			k := f.kids[name]
			if typ == 0 || k.typ == typ {
				l = append(l, path.Join(p, name))
			}
			if k.typ == 'd' {
				walk(path.Join(p, name), k)
			}
		}
	}
	walk("", c.m.root)
	return l
}

func pick[T any](c *chooser, l []T) (v T, ok bool) {
	if len(l) == 0 {
		return v, false
	}
	return l[c.IntN(len(l))], true
}

// place is a name in some folder, which may be taken.
func (c *chooser) place() string {
	dirs := append(c.paths('d'), "")
	dir, _ := pick(c, dirs)
	if strings.Count(dir, "/") > 2 {
		dir = ""
	}
	return path.Join(dir, fmt.Sprintf("n%d", c.IntN(8)))
}

func (c *chooser) handleOf() (int, bool) {
	return pick(c, slices.Sorted(maps.Keys(c.m.open)))
}

func (c *chooser) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return b
}

// length is that of a write: mostly small, some around the size at which a file
// goes from memory to the spool, some big.
func (c *chooser) length() int {
	switch r := c.IntN(100); {
	case r < 70:
		return 1 + c.IntN(3000)
	case r < 95:
		return 1 + c.IntN(90_000)
	}
	if c.most > 0 {
		return 1 + c.IntN(c.most)
	}
	return 1 + c.IntN(1_500_000)
}

// next is an operation that succeeds on the model.
func (c *chooser) next() op {
	for {
		if o, ok := c.try(); ok {
			return o
		}
	}
}

func (c *chooser) try() (op, bool) {
	switch r := c.IntN(100); {
	case r < 16:
		p := c.place()
		c.handle++
		return op{Kind: opCreate, Path: p, Mode: []uint32{0o644, 0o600, 0o755, 0o640}[c.IntN(4)], Handle: c.handle}, c.m.find(p) == nil && len(c.m.open) < 12
	case r < 19:
		p, ok := pick(c, c.paths('f'))
		c.handle++
		return op{Kind: opOpen, Path: p, Handle: c.handle}, ok && len(c.m.open) < 12
	case r < 30:
		h, ok := c.handleOf()
		return op{Kind: opClose, Handle: h}, ok
	case r < 55:
		h, ok := c.handleOf()
		if !ok {
			return op{}, false
		}
		size, n := len(c.m.open[h].data), c.length()
		off := size
		if c.IntN(3) == 0 {
			off = c.IntN(size + 20_000)
		}
		return op{Kind: opWrite, Handle: h, Off: int64(off), Data: c.bytes(n)}, off+n < 3_000_000
	case r < 59:
		h, ok := c.handleOf()
		if !ok {
			return op{}, false
		}
		size := int64(0)
		if c.IntN(3) > 0 {
			size = c.Int64N(int64(len(c.m.open[h].data)) + 5000)
		}
		return op{Kind: opTruncate, Handle: h, Off: size}, true
	case r < 64:
		p := c.place()
		return op{Kind: opMkdir, Path: p, Mode: []uint32{0o755, 0o700}[c.IntN(2)]}, c.m.find(p) == nil
	case r < 66:
		p, ok := pick(c, c.paths('d'))
		return op{Kind: opRmdir, Path: p}, ok && len(c.m.find(p).kids) == 0
	case r < 72:
		p, ok := pick(c, append(c.paths('f'), c.paths('l')...))
		return op{Kind: opUnlink, Path: p}, ok
	case r < 86:
		return c.rename()
	case r < 89:
		p, ok := pick(c, c.paths('f'))
		to := c.place()
		return op{Kind: opLink, Path: p, To: to}, ok && c.m.find(to) == nil
	case r < 91:
		p := c.place()
		return op{Kind: opSymlink, Path: p, To: fmt.Sprintf("target%d", c.IntN(100))}, c.m.find(p) == nil
	case r < 94:
		p, ok := pick(c, append(c.paths('f'), c.paths('d')...))
		return op{Kind: opChmod, Path: p, Mode: []uint32{0o700, 0o750, 0o711, 0o755}[c.IntN(4)]}, ok
	case r < 96:
		p, ok := pick(c, c.paths('f'))
		return op{Kind: opUtimes, Path: p, Off: 1_000_000_000 + c.Int64N(500_000_000)}, ok
	case r < 97:
		h, ok := c.handleOf()
		return op{Kind: opFsync, Handle: h}, ok && !c.cut
	case r < 98:
		return op{Kind: opCut}, !c.cut
	}
	return op{Kind: opHeal}, c.cut
}

func (c *chooser) rename() (op, bool) {
	p, ok := pick(c, c.paths(0))
	to := c.place()
	if !ok || to == p || strings.HasPrefix(to, p+"/") {
		return op{}, false
	}
	f, over := c.m.find(p), c.m.find(to)
	if over != nil && (over == f || (f.typ == 'd') != (over.typ == 'd') || len(over.kids) > 0) {
		return op{}, false
	}
	return op{Kind: opRename, Path: p, To: to}, true
}
