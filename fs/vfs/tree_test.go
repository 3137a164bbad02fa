package vfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
)

// model is a tree as simple as can be: paths, and which file each is. Everything
// in it has been looked up and is in use.
type model struct {
	t     *testing.T
	tree  *tree
	rand  *rand.Rand
	names map[string]*node // by path; "" is the root
	uses  map[Ino]uint64
}

func (m *model) pick(want func(p string, n *node) bool) (string, *node) {
	var l []string
	for p, n := range m.names {
		if want(p, n) {
			l = append(l, p)
		}
	}
	if len(l) == 0 {
		return "", nil
	}
	slices.Sort(l) // a map's order would not repeat
	p := l[m.rand.IntN(len(l))]
	return p, m.names[p]
}

func isFolder(_ string, n *node) bool { return n.mode == TypeDir }
func notRoot(p string, _ *node) bool  { return p != "" }

// place is a path that may exist or not, with its folder.
func (m *model) place() (p string, dir *node, name string) {
	d, dir := m.pick(isFolder)
	name = string(rune('a' + m.rand.IntN(4)))
	return path.Join(d, name), dir, name
}

func (m *model) split(p string) (*node, string) {
	d, name := path.Split(p)
	return m.names[strings.TrimSuffix(d, "/")], name
}

func (m *model) below(p string) []string {
	var l []string
	for q := range m.names {
		if strings.HasPrefix(q, p+"/") {
			l = append(l, q)
		}
	}
	return l
}

// replaceable reports whether a name may be given to something else.
func (m *model) replaceable(p string) bool { return len(m.below(p)) == 0 }

func (m *model) step() {
	switch m.rand.IntN(6) {
	case 0, 1: // look a name up, of a file or a folder that may be new
		p, dir, name := m.place()
		mode := uint32(TypeRegular)
		if m.rand.IntN(2) == 0 {
			mode = TypeDir
		}
		old := m.names[p]
		if old != nil && old.mode != mode && !m.replaceable(p) {
			return
		}
		n := m.tree.remember(dir, name, mode)
		if old != nil && (old.mode == mode) != (old == n) {
			m.t.Fatalf("%s: inode %d after %d", p, n.ino, old.ino)
		}
		m.names[p] = n
		m.uses[n.ino]++
	case 2: // link
		_, n := m.pick(func(_ string, n *node) bool { return n.mode == TypeRegular })
		p, dir, name := m.place()
		if n == nil || m.names[p] != nil {
			return
		}
		m.tree.link(n, dir, name)
		m.names[p] = n
		m.uses[n.ino]++
	case 3: // unlink
		p, n := m.pick(func(p string, _ *node) bool { return notRoot(p, nil) && m.replaceable(p) })
		if n == nil {
			return
		}
		m.tree.unlink(m.split(p))
		delete(m.names, p)
	case 4: // rename
		from, n := m.pick(notRoot)
		to, dir, name := m.place()
		if n == nil || !m.replaceable(to) || from == to || strings.HasPrefix(to, from+"/") {
			return
		}
		if m.tree.within(dir, n) != (n.mode == TypeDir && strings.HasPrefix(path.Dir(to)+"/", from+"/")) {
			m.t.Fatalf("%s within %s: wrong", path.Dir(to), from)
		}
		oldDir, oldName := m.split(from)
		m.tree.rename(oldDir, oldName, dir, name)
		if m.names[to] == n { // two names of one file
			return
		}
		for _, q := range m.below(from) {
			m.names[to+strings.TrimPrefix(q, from)] = m.names[q]
			delete(m.names, q)
		}
		m.names[to] = n
		delete(m.names, from)
	case 5: // the kernel forgets what it has no name for
		for _, ino := range slices.Sorted(maps.Keys(m.uses)) {
			if !slices.ContainsFunc(slices.Collect(maps.Values(m.names)), func(n *node) bool { return n.ino == ino }) {
				m.tree.forget(ino, m.uses[ino])
				delete(m.uses, ino)
				if _, err := m.tree.get(ino); err == nil {
					m.t.Fatalf("inode %d has neither name nor use and is still there", ino)
				}
			}
		}
	}
}

// agree compares the tree with the model.
func (m *model) agree() {
	m.t.Helper()
	links := map[Ino]uint32{}
	for p, n := range m.names {
		links[n.ino]++
		if got, err := m.tree.get(n.ino); err != nil || got != n {
			m.t.Fatalf("%s: inode %d is lost", p, n.ino)
		}
		if p == "" {
			continue
		}
		if got := m.tree.child(m.split(p)); got != n {
			m.t.Fatalf("%s: another inode than %d", p, n.ino)
		}
		first, ok := m.tree.path(n)
		if !ok || m.names[strings.TrimPrefix(first, "/root/")] != n {
			m.t.Fatalf("%s: inode %d says it is %s, %v", p, n.ino, first, ok)
		}
	}
	for p, n := range m.names {
		if n.mode == TypeRegular && m.tree.nlink(n) != links[n.ino] {
			m.t.Fatalf("%s: %d links, want %d", p, m.tree.nlink(n), links[n.ino])
		}
	}
	for ino := range m.uses {
		if links[ino] == 0 {
			if n, err := m.tree.get(ino); err != nil {
				m.t.Fatalf("inode %d is in use and lost", ino)
			} else if p, ok := m.tree.path(n); ok {
				m.t.Fatalf("inode %d has no name, but says %s", ino, p)
			}
		}
	}
	if want := 1 + len(m.uses); m.tree.size() != want {
		m.t.Fatalf("%d inodes, want %d", m.tree.size(), want)
	}
}

func TestTreeAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			tr := newTree("/root")
			m := &model{t: t, tree: tr, rand: rand.New(rand.NewPCG(seed, 0)), names: map[string]*node{"": tr.nodes[RootIno]}, uses: map[Ino]uint64{}}
			for range 300 {
				m.step()
				m.agree()
			}
			// The kernel may forget a folder before what is in it.
			inos := slices.Sorted(maps.Keys(m.uses))
			m.rand.Shuffle(len(inos), func(i, j int) { inos[i], inos[j] = inos[j], inos[i] })
			for _, ino := range inos {
				tr.forget(ino, m.uses[ino])
			}
			if tr.size() != 1 || len(tr.nodes[RootIno].children) != 0 {
				t.Fatalf("%d inodes left, %d names in the root", tr.size(), len(tr.nodes[RootIno].children))
			}
		})
	}
}

// What is open keeps its node without a name and without a lookup.
func TestTreeKeepsWhatIsOpen(t *testing.T) {
	tr := newTree("/root")
	root := tr.nodes[RootIno]
	dir := tr.remember(root, "d", TypeDir)
	n := tr.remember(dir, "f", TypeRegular)
	f := &sharedFile{node: n}
	tr.addOpen(n, f)
	tr.forget(n.ino, 1)
	tr.forget(dir.ino, 1)
	if p, ok := tr.path(n); !ok || p != "/root/d/f" {
		t.Fatalf("path %q, %v", p, ok)
	}
	tr.unlink(dir, "f")
	if tr.size() != 2 {
		t.Fatalf("%d inodes, want the root and the open file", tr.size())
	}
	tr.dropOpen(n, f)
	if tr.size() != 1 {
		t.Fatalf("%d inodes left", tr.size())
	}
}

func TestTreeSince(t *testing.T) {
	tr := newTree("/root")
	root := tr.nodes[RootIno]
	n := tr.remember(root, "f", TypeRegular)
	moment := tr.now()
	if got := tr.rememberSince(root, "f", Attr{Mode: TypeRegular}, moment); got != n {
		t.Fatal("nothing has changed, and yet not told")
	}
	tr.touch(n)
	if tr.rememberSince(root, "f", Attr{Mode: TypeRegular}, moment) != nil {
		t.Fatal("told of a file that was changed since")
	}
	if tr.rememberSince(root, "g", Attr{Mode: TypeRegular}, moment) == nil {
		t.Fatal("not told of another")
	}
	tr.unlink(root, "g")
	if tr.rememberSince(root, "g", Attr{Mode: TypeRegular}, moment) != nil {
		t.Fatal("told of a name that was removed since")
	}
}
