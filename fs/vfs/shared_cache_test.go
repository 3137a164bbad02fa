package vfs

import (
	"errors"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"testing"
	"time"

	"bundlefs/internal/sftpwire"
)

func testCache(most int) *nameCache {
	return newNameCache(SharedOptions{NameTimeout: time.Hour, AttrTimeout: time.Hour, Cache: CacheOptions{Max: most}})
}

// nodeModel is a folder tree on a node, path to size; a folder has the size -1.
type nodeModel map[string]int

func (m nodeModel) stat(p string) (sftpwire.Stat, error) {
	size, ok := m[p]
	switch {
	case !ok:
		return sftpwire.Stat{}, errors.New("none")
	case size < 0:
		return sftpwire.Stat{Permissions: TypeDir}, nil
	}
	return sftpwire.Stat{Permissions: TypeRegular, Size: uint64(size)}, nil
}

func (m nodeModel) list(dir string) (names []sftpwire.Name) {
	for _, p := range slices.Sorted(maps.Keys(m)) {
		if path.Dir(p) == dir && p != dir {
			st, _ := m.stat(p)
			names = append(names, sftpwire.Name{Name: path.Base(p), Stat: st})
		}
	}
	return names
}

// What the cache says is what the node has, whatever is changed here while
// answers of the node, some of them old, are on their way.
func TestCacheIsTrue(t *testing.T) {
	type question struct {
		f     *fetch
		names []sftpwire.Name // of a listing
		name  string          // else
		st    sftpwire.Stat
		err   error
	}
	for seed := range uint64(40) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			most := 1000
			if seed%2 == 1 {
				most = 6
			}
			c, m := testCache(most), nodeModel{"/r": -1}
			var asked []question
			pick := func(dirs bool) string {
				var l []string
				for p, size := range m {
					if size < 0 == dirs {
						l = append(l, p)
					}
				}
				slices.Sort(l)
				if len(l) == 0 {
					return ""
				}
				return l[r.IntN(len(l))]
			}
			name := func() string { return path.Join(pick(true), string(rune('a'+r.IntN(4)))) }
			for step := range 600 {
				switch r.IntN(9) {
				case 0, 1: // a question is sent, and the node answers at once
					dir := pick(true)
					if f, mine := c.beginList(dir); mine {
						asked = append(asked, question{f: f, names: m.list(dir)})
					}
				case 2:
					p := name()
					st, err := m.stat(p)
					asked = append(asked, question{f: c.begin(path.Dir(p)), name: path.Base(p), st: st, err: err})
				case 3, 4: // an answer arrives
					if len(asked) == 0 {
						continue
					}
					i := r.IntN(len(asked))
					q := asked[i]
					asked = slices.Delete(asked, i, i+1)
					switch {
					case q.f.done != nil:
						c.putList(q.f, q.names, r.IntN(2) == 0, false)
					case q.err == nil:
						c.put(q.f, q.name, &q.st)
					}
					c.end(q.f)
				case 5: // a file or folder is made
					p := name()
					if _, ok := m[p]; ok {
						continue
					}
					m[p] = r.IntN(3) - 1
					mode := uint32(TypeRegular)
					if m[p] < 0 {
						mode = TypeDir
						c.empty(p)
					}
					c.exists(p, mode)
					c.stale(path.Dir(p))
				case 6: // a file is written
					if p := pick(false); p != "" {
						m[p] = r.IntN(1000)
						c.stale(p)
					}
				case 7: // something is removed
					p := name()
					if _, ok := m[p]; !ok || len(m.list(p)) > 0 {
						continue
					}
					delete(m, p)
					c.removed(p)
					if r.IntN(2) == 0 {
						c.doubt(p)
					}
				case 8: // something is renamed to a free name
					from, to := name(), name()
					size, ok := m[from]
					if _, taken := m[to]; !ok || taken || to == from || len(to) > len(from) && to[:len(from)+1] == from+"/" {
						continue
					}
					c.renamed(from, to, size < 0)
					for p, size := range maps.Clone(m) {
						if p == from || len(p) > len(from) && p[:len(from)+1] == from+"/" {
							delete(m, p)
							m[to+p[len(from):]] = size
						}
					}
				}
				for _, dir := range slices.Sorted(maps.Keys(m)) {
					for _, base := range []string{"a", "b", "c", "d"} {
						p := path.Join(dir, base)
						want, err := m.stat(p)
						st, _, found := c.look(p)
						if found == absent && err == nil || found == present && (err != nil || st.Size != want.Size || st.Permissions != want.Permissions) {
							t.Fatalf("step %d: %s is %v %+v, and on the node %+v, %v", step, p, found, st, want, err)
						}
					}
					if l, ok := c.list(dir, false); ok && !slices.Equal(l.names, m.list(dir)) {
						t.Fatalf("step %d: %s lists %v, and on the node %v", step, dir, l.names, m.list(dir))
					}
				}
				count := 0
				for _, d := range c.dirs {
					count += 1 + len(d.names)
				}
				if count != c.count {
					t.Fatalf("step %d: %d names, counted %d", step, count, c.count)
				}
			}
			for _, q := range asked {
				c.end(q.f)
			}
			if len(c.fetches) != 0 || len(c.loading) != 0 {
				t.Errorf("%d questions and %d listings are left", len(c.fetches), len(c.loading))
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := testCache(100)
	for i := range 1000 {
		f, _ := c.beginList("/r/" + strconv.Itoa(i))
		c.putList(f, []sftpwire.Name{{Name: "a"}, {Name: "b"}}, i%2 == 0, false)
		c.end(f)
		f = c.begin("/r")
		c.put(f, strconv.Itoa(i), &sftpwire.Stat{})
		c.end(f)
		if c.count > 101 || len(c.oldest) > 400 {
			t.Fatalf("%d names, %d folders in order of age", c.count, len(c.oldest))
		}
	}
	f, _ := c.beginList("/big")
	c.putList(f, make([]sftpwire.Name, 51), false, false)
	c.end(f)
	if _, ok := c.list("/big", false); ok {
		t.Error("a folder that takes half of the room is remembered")
	}
}

func TestCacheGrowsOld(t *testing.T) {
	short := time.Nanosecond
	c := newNameCache(SharedOptions{NameTimeout: time.Hour, AttrTimeout: time.Hour, Cache: CacheOptions{Dir: &short, Attr: &short, Link: &short}})
	f, _ := c.beginList("/r")
	c.putList(f, []sftpwire.Name{{Name: "a"}}, false, false)
	c.putTarget(f, "a", "x")
	c.end(f)
	for time.Since(f.asked) < time.Microsecond {
	}
	if _, ok := c.list("/r", false); ok {
		t.Error("an old listing is given out")
	}
	for _, p := range []string{"/r/a", "/r/b"} {
		if _, _, found := c.look(p); found != unknown {
			t.Errorf("%s is known from an old listing", p)
		}
	}
	if _, ok := c.target("/r/a"); ok {
		t.Error("an old target is given out")
	}
}

func TestHowLongTheKernelMayBelieve(t *testing.T) {
	for _, c := range []struct{ kernel, cache, age, want time.Duration }{
		{10, 10, 0, 10},
		{10, 10, 4, 6},
		{10, 10, 12, 0},
		{10, 0, 0, 10},
		{0, 10, 3, 0},
		{10, 30, 5, 10},
		{10, 30, 25, 5},
	} {
		if got := left(c.kernel, c.cache, c.age); got != c.want {
			t.Errorf("%d of the kernel, %d here, %d ago: %d, want %d", c.kernel, c.cache, c.age, got, c.want)
		}
	}
}
