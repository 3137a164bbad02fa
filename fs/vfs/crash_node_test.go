package vfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// busy reports whether a file of the model, or one below it, is open or has several
// names: what is done to it on the node is not what is seen here.
func (m *model) busy(f *mfile) bool {
	links := map[*mfile]int{}
	var count func(f *mfile)
	count = func(f *mfile) {
		for _, k := range f.kids {
			links[k]++
			count(k)
		}
	}
	count(m.root)
	for _, o := range m.open {
		links[o] = 2
	}
	var any func(f *mfile) bool
	any = func(f *mfile) bool {
		for _, k := range f.kids {
			if any(k) {
				return true
			}
		}
		return links[f] > 1
	}
	return any(f)
}

// remoteStep changes files on the node, between a barrier and what makes the mount look again.
func (l *life) remoteStep(k *killed) {
	l.Helper()
	l.synced(k)
	must := func(err error) {
		l.Helper()
		if err != nil {
			l.fail(k, "on the node: %v", err)
		}
	}
	for range 1 + l.IntN(4) {
		p, gone := l.c.place(), false
		if l.IntN(2) == 0 {
			if p, gone = pick(l.c, l.c.paths(0)); !gone {
				continue
			}
		}
		f := l.c.m.find(p)
		if f != nil && (l.c.m.busy(f) || !gone && f.typ != 'f') {
			continue
		}
		at := filepath.Join(l.node, p)
		kids, name := l.c.m.in(p)
		switch {
		case gone:
			l.note("node: remove %s", p)
			must(os.RemoveAll(at))
			delete(kids, name)
		case f == nil && l.IntN(3) == 0:
			l.note("node: mkdir %s", p)
			must(os.Mkdir(at, 0o700))
			kids[name] = &mfile{typ: 'd', mode: 0o700, kids: map[string]*mfile{}}
		default:
			l.note("node: write %s", p)
			when := time.Unix(1_500_000_000+l.Int64N(100_000_000), 0)
			data := l.c.bytes(l.IntN(5000))
			must(os.WriteFile(at, data, 0o600))
			must(os.Chmod(at, 0o600))
			must(os.Chtimes(at, when, when))
			kids[name] = &mfile{typ: 'f', mode: 0o600, data: data, mtime: when.UnixNano()}
		}
	}
	l.do(k, op{Kind: opDrop})
	l.same(k)
}

// same compares what is seen here; what is listed then is known when the link is cut.
func (l *life) same(k *killed) {
	l.Helper()
	if differences := l.c.m.differences(k.must(l, op{Kind: opDump}).Tree); len(differences) > 0 {
		l.fail(k, "here:\n  %s", strings.Join(differences, "\n  "))
	}
}

// refused has the node refuse a change, since something is in its way, which is then
// given up or tried again.
func (l *life) refused(k *killed) {
	l.Helper()
	l.synced(k)
	before := l.c.m.clone()
	p := l.c.place()
	for l.c.m.find(p) != nil {
		p = l.c.place() + "new"
	}
	stray := filepath.Join(l.node, p)
	var changes []op
	switch file, ok := pick(l.c, l.c.paths('f')); {
	case ok && !l.c.m.busy(l.c.m.find(file)) && l.IntN(2) == 0: // one of several names is removed before the other is made
		changes = []op{{Kind: opRename, Path: file, To: p}}
	case l.IntN(2) == 0:
		l.do(k, op{Kind: opMkdir, Path: p, Mode: 0o700})
		l.synced(k)
		before = l.c.m.clone()
		stray = filepath.Join(stray, "stray")
		changes = []op{{Kind: opRmdir, Path: p}}
	default:
		l.c.handle++
		changes = []op{
			{Kind: opCreate, Path: p, Mode: 0o644, Handle: l.c.handle},
			{Kind: opWrite, Handle: l.c.handle, Data: l.c.bytes(l.c.length())},
			{Kind: opClose, Handle: l.c.handle},
		}
	}
	l.note("node: mkdir %s", stray)
	if err := os.Mkdir(stray, 0o700); err != nil {
		l.fail(k, "%v", err)
	}
	for _, o := range changes {
		l.do(k, o)
	}
	if err := k.in.Encode(op{Kind: opSync}); err != nil {
		l.fail(k, "%v", err)
	}
	if a, ok := k.answer(l); !ok || a.Errno == 0 {
		l.fail(k, "not refused: %+v", a)
	}
	l.note("node: rmdir %s", stray)
	if err := os.Remove(stray); err != nil {
		l.fail(k, "%v", err)
	}
	if l.IntN(3) == 0 {
		l.do(k, op{Kind: opRetry})
	} else {
		l.do(k, op{Kind: opDiscard, Path: p})
		l.c.m = before
	}
	l.same(k)
}
