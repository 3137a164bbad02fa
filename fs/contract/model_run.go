package contract

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Model is a model test: several workers do random operations on a tree and on a
// plain one in step, each in a folder of its own and, in turn, in one that they
// share.
type Model struct {
	Got, Want Tree // both empty
	Seed      uint64
	Workers   int
	Steps     int           // of each worker
	Time      time.Duration // ends the run, whatever is left of Steps; 0: does not
	Every     int           // so many steps of the first worker between two barriers
	NoLinks   bool          // no hard links are made
	Closed    bool          // all files are closed before each barrier
	// Barrier is called while nothing is done; open tells whether files are open.
	// What it changes in Want it must bring about in Got.
	Barrier func(rng *rand.Rand, open bool) error
	// Replay is a file with the output of a failed run, whose operations are done again,
	// one after the other; "" makes new ones.
	Replay string
}

// worker is one goroutine of a model test.
type worker struct {
	both
	m    *Model
	id   int
	rng  *rand.Rand
	crew *crew
}

// crew is what the workers share.
type crew struct {
	standstill sync.RWMutex // held for reading during an operation, for writing during a barrier
	shared     sync.Mutex   // held by who works in the shared folder
	stop       chan struct{}

	mu      sync.Mutex // guards what follows
	failure *failure
	done    history
}

const sharedFolder = "shared"

// Run runs the model test, or does a failed one again. A failure names the seed and
// all operations, in a form that can be given to Replay.
func (m *Model) Run(t *testing.T) {
	t.Helper()
	if m.Replay != "" {
		m.replay(t)
	} else if f := m.run(); f != nil {
		t.Errorf("seed %d: %v\n%s", m.Seed, f.err, f.done)
	}
}

// run does random operations until one fails; nil if none does.
func (m *Model) run() *failure {
	start := time.Now()
	c := &crew{stop: make(chan struct{})}
	if err := m.makeFolders(); err != nil {
		return &failure{err: err}
	}
	var workers []*worker
	for i := range m.Workers {
		w := m.newWorker(i)
		w.crew = c
		workers = append(workers, w)
	}
	barrier := func(rng *rand.Rand) error {
		c.standstill.Lock()
		defer c.standstill.Unlock()
		o := Op{Kind: "barrier", Seed: rng.Uint32()}
		c.note(0, o)
		return m.barrier(o, workers)
	}
	var running sync.WaitGroup
	for _, w := range workers {
		running.Go(func() {
			for step := 0; step < m.Steps && (m.Time == 0 || time.Since(start) < m.Time); step++ {
				select {
				case <-c.stop:
					return
				default:
				}
				err := w.step(c)
				if err == nil && w.id == 0 && step%m.Every == m.Every-1 {
					err = barrier(w.rng)
				}
				if err != nil {
					c.fail(fmt.Errorf("worker %d, step %d: %w", w.id, step, err))
					return
				}
			}
		})
	}
	running.Wait()
	for _, w := range workers {
		if err := w.close(); err != nil {
			c.fail(fmt.Errorf("worker %d, closing: %w", w.id, err))
		}
	}
	if c.failure == nil {
		if err := barrier(workers[0].rng); err != nil {
			c.fail(fmt.Errorf("at the end: %w", err))
		}
	}
	return c.failure
}

func (m *Model) newWorker(id int) *worker {
	return &worker{
		both: both{got: m.Got, want: refusing{m.Want}, links: !m.NoLinks},
		m:    m, id: id, rng: rand.New(rand.NewPCG(m.Seed, uint64(id))),
	}
}

func (m *Model) makeFolders() error {
	folders := both{got: m.Got, want: refusing{m.Want}}
	for _, dir := range append([]string{sharedFolder}, m.folders()...) {
		if err := folders.do(Op{Kind: "mkdir", Path: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	return nil
}

// barrier compares all while nothing else is done.
func (m *Model) barrier(o Op, workers []*worker) error {
	open := false
	for _, w := range workers {
		if m.Closed {
			if err := w.close(); err != nil {
				return err
			}
		}
		open = open || w.anyOpen()
	}
	if err := m.Barrier(rand.New(rand.NewPCG(uint64(o.Seed), 0)), open); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	return workers[0].sameTree(".")
}

func (m *Model) folders() []string {
	var l []string
	for i := range m.Workers {
		l = append(l, fmt.Sprintf("w%d", i))
	}
	return l
}

// step does one random operation.
func (w *worker) step(c *crew) error {
	c.standstill.RLock()
	defer c.standstill.RUnlock()
	base := fmt.Sprintf("w%d", w.id)
	if w.rng.IntN(6) == 0 {
		c.shared.Lock()
		defer c.shared.Unlock()
		return w.inShared(base)
	}
	return w.noted(w.random(base))
}

// noted does an operation that can be done again.
func (w *worker) noted(o Op) error {
	w.crew.note(w.id, o)
	return w.do(o)
}

// inShared works in the shared folder, or moves something there or back. What is
// open, or has several names, would be changed by two workers at once later on.
func (w *worker) inShared(base string) error {
	o := w.random(sharedFolder)
	switch o.Kind {
	case "open", "write", "append", "read", "ftruncate", "fstat", "fsync", "close":
		o = Op{Kind: "check", Path: w.path(sharedFolder)}
	case "rename", "swap":
		other := w.path(base)
		if w.rng.IntN(2) == 0 {
			o = Op{Kind: "rename", Path: other, Path2: o.Path}
		} else {
			o = Op{Kind: "rename", Path: o.Path, Path2: other}
		}
		if w.several(o.Path) || w.several(o.Path2) {
			return nil
		}
		if err := w.noted(Op{Kind: "close all"}); err != nil {
			return err
		}
	}
	return w.noted(o)
}

// several reports whether something at or below a path has several names.
func (w *worker) several(p string) bool {
	a, err := w.want.Lstat(p)
	if err != nil {
		return false
	}
	if a.Mode&0o170000 != 0o040000 {
		return a.Nlink > 1
	}
	names, err := w.want.List(p)
	if err != nil {
		return true
	}
	for _, name := range names {
		if w.several(path.Join(p, name)) {
			return true
		}
	}
	return false
}

// Names of a model test: mostly few, so that they meet, and now and then an odd one: not UTF-8, the
// longest, too long, or reserved.
var (
	dirNames  = []string{"a", "b"}
	fileNames = []string{"f", "g", "h"}
	oddNames  = []string{"\xff\xfe", strings.Repeat("l", 255), strings.Repeat("l", 256), ".bundlefs~x", ".bundlefs~7-7", ".bundlefs~kept-7-7"}
)

// oneOf is one of the names, or an odd one.
func (w *worker) oneOf(names []string) string {
	if w.rng.IntN(12) == 0 {
		names = oddNames
	}
	return names[w.rng.IntN(len(names))]
}

// path is a random path below base.
func (w *worker) path(base string) string {
	p := base
	for range w.rng.IntN(3) {
		p = path.Join(p, dirNames[w.rng.IntN(len(dirNames))])
	}
	if w.rng.IntN(4) == 0 {
		return path.Join(p, w.oneOf(dirNames))
	}
	return path.Join(p, w.oneOf(fileNames))
}

// folder is a random path that is more likely a folder's.
func (w *worker) folder(base string) string {
	p := path.Join(base, w.oneOf(dirNames))
	for range w.rng.IntN(3) {
		p = path.Join(p, dirNames[w.rng.IntN(len(dirNames))])
	}
	return p
}

// size is a random size: mostly small, sometimes beyond what is kept in memory or
// what is sent while the file is still written.
func (w *worker) size() int64 {
	switch w.rng.IntN(40) {
	case 0:
		return w.rng.Int64N(3 << 20)
	case 1, 2, 3:
		return w.rng.Int64N(200 << 10)
	case 4, 5, 6, 7, 8:
		return 0
	}
	return w.rng.Int64N(9000)
}

var weights = []struct {
	kind   string
	weight int
}{
	{"open", 10}, {"write", 14}, {"append", 4}, {"read", 6}, {"ftruncate", 4}, {"fstat", 2}, {"fsync", 1}, {"close", 7},
	{"put", 14}, {"save", 6}, {"swap", 3}, {"rmall", 1}, {"check", 4}, {"list", 2},
	{"mkdir", 14}, {"rmdir", 3}, {"unlink", 8}, {"rename", 10}, {"movedir", 6}, {"link", 5}, {"symlink", 3},
	{"chmod", 3}, {"utimes", 3}, {"truncate", 4},
}

// random is a random operation below base.
func (w *worker) random(base string) Op {
	all := 0
	for _, k := range weights {
		all += k.weight
	}
	at := w.rng.IntN(all)
	kind := ""
	for _, k := range weights {
		if at -= k.weight; at < 0 {
			kind = k.kind
			break
		}
	}
	o := Op{Kind: kind, Path: w.path(base), Seed: w.rng.Uint32() >> 1}
	switch kind {
	case "open":
		o.Slot = w.rng.IntN(len(w.slots))
		o.Flags = []int{
			syscall.O_RDWR | syscall.O_CREAT, syscall.O_RDWR, syscall.O_RDONLY, syscall.O_RDWR | syscall.O_CREAT | syscall.O_EXCL,
			syscall.O_RDWR | syscall.O_CREAT | syscall.O_TRUNC, syscall.O_RDWR | syscall.O_CREAT | syscall.O_APPEND, syscall.O_RDWR | syscall.O_TRUNC,
		}[w.rng.IntN(7)]
		o.Mode = uint32(w.rng.IntN(0o1000))
	case "write", "append", "read", "ftruncate", "fstat", "fsync", "close":
		o.Path, o.Slot = "", w.rng.IntN(len(w.slots))
		o.Off, o.Len = w.size(), 1+w.size() // the kernel asks for no empty write
	case "put", "save", "truncate":
		o.Len, o.Mode = w.size(), uint32(w.rng.IntN(0o1000))
	case "mkdir", "rmdir", "rmall", "list":
		o.Path, o.Mode = w.folder(base), uint32(w.rng.IntN(0o1000))
	case "rename", "swap", "link":
		o.Path2 = w.path(base)
		o.Flags = max(0, w.rng.IntN(8)-6)
		if kind == "link" && w.m.NoLinks {
			o.Kind = "rename"
		}
	case "movedir":
		o = Op{Kind: "rename", Path: w.folder(base), Path2: w.folder(base)}
	case "chmod":
		o.Mode = uint32(w.rng.IntN(0o1000))
	}
	return o
}
