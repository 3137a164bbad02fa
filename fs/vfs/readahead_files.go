package vfs

import (
	"context"
	"slices"
	"sync"
	"time"
)

// smallFiles are the small files of a mount, for who reads one after the other.
type smallFiles interface {
	// following returns up to count files that come after ino, in the order in which
	// programs read a tree: by name, folder by folder.
	following(ino Ino, count int) []nextFile
	// fetchAhead fetches a file to where its reader will find it, and returns when
	// it is there, or cannot be.
	fetchAhead(ctx context.Context, ino Ino)
}

// nextFile is a file that follows, with its folder and its size in bytes.
type nextFile struct {
	ino, dir Ino
	size     int64
}

const (
	// aheadFetches is how many small files are fetched at a time.
	aheadFetches = 128
	// maxWalks is how many programs that read files one after the other are followed.
	maxWalks = 8
	// firstFiles is how many files are fetched ahead for who has read one and then
	// the next; the number doubles while he goes on.
	firstFiles = 8
	maxFiles   = 512
	// walkSkips is how many files a program may leave out and still be followed.
	walkSkips = 4
	// walkStreak is how many files without a pause show that one goes on so.
	walkStreak = 2
	// walkLate is how many files behind the first one is still waited for.
	walkLate = 32
)

// filesAhead has small files fetched ahead.
type filesAhead struct {
	files smallFiles
	ctx   context.Context
	most  int64 // bytes that one program has fetched ahead
	tasks sync.WaitGroup

	mu      sync.Mutex // guards what follows
	walks   []*walk
	reads   uint64
	queue   []Ino
	running int
}

// walk is a program that reads files one after the other.
type walk struct {
	expected []nextFile // in order; of those in front some may have been left out
	window   int        // how many files are fetched ahead; 0: it is not known that he goes on
	last     uint64     // the count of reads when it was last seen
	filling  bool       // somebody looks for what follows

	current Ino       // the file that it reads
	seen    time.Time // when it last asked for something, or got it
	steady  time.Time // since when it has made no pause
	streak  int       // files read since then
}

func newFilesAhead(ctx context.Context, files smallFiles, most int64) *filesAhead {
	return &filesAhead{files: files, ctx: ctx, most: min(most, 8<<20)}
}

// read is told of each small file whose beginning is read.
func (a *filesAhead) read(ino Ino) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	for _, w := range a.walks {
		i := slices.IndexFunc(w.expected, func(f nextFile) bool { return f.ino == ino })
		if i < 0 || w.window == 0 && i >= walkSkips {
			continue
		}
		late := max(0, i-walkLate)
		w.expected = append(w.expected[late:i:i], w.expected[i+1:]...)
		w.last, w.current, w.seen = a.reads, ino, time.Now()
		w.streak++
		started := w.window > 0
		w.window = min(max(2*w.window, firstFiles), maxFiles)
		if !started {
			a.fetch(w.expected)
		}
		if len(w.expected) <= w.window/2 && !w.filling {
			a.fill(w, ino)
		}
		return
	}
	w := &walk{last: a.reads, current: ino, seen: time.Now()}
	if len(a.walks) < maxWalks {
		a.walks = append(a.walks, w)
	} else {
		oldest := 0
		for i, old := range a.walks {
			if old.last < a.walks[oldest].last {
				oldest = i
			}
		}
		a.walks[oldest] = w
	}
	a.fill(w, ino)
}

// served is told when who looks up or reads a small file has got what he asked for.
func (a *filesAhead) served(ino Ino) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.walks {
		if w.current == ino || w.window > 0 && w.find(ino) >= 0 {
			w.seen = time.Now()
		}
	}
}

// arrived is told who looks up or opens a file, or looks up the folder of one. It
// tells since when the program that comes to it, reading one file after the other, has
// made no pause so long; false if there is none.
func (a *filesAhead) arrived(ino Ino, pause time.Duration) (since time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.walks {
		if w.window == 0 || w.find(ino) < 0 {
			continue
		}
		now := time.Now()
		if now.Sub(w.seen) > pause {
			w.steady, w.streak = now, 0
		}
		w.seen = now
		return w.steady, true
	}
	return time.Time{}, false
}

// again has what comes after a file fetched once more, since it has grown old, after a
// call of drop; not if its reader makes a pause between any two.
func (a *filesAhead) again(ino Ino, drop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.walks {
		i := w.find(ino)
		if i < 0 || w.streak < walkStreak {
			continue
		}
		w.expected = w.expected[:min(i+1+firstFiles, len(w.expected))]
		w.window = firstFiles
		drop()
		a.fetch(w.expected[i+1:])
		return
	}
}

// find is the first of the expected files that is the given one, or in that folder;
// a.mu is held.
func (w *walk) find(ino Ino) int {
	return slices.IndexFunc(w.expected, func(f nextFile) bool { return f.ino == ino || f.dir == ino })
}

// fill looks for the files that follow in a walk, and has them fetched if it is
// known that it goes on; mu is held.
func (a *filesAhead) fill(w *walk, ino Ino) {
	if a.ctx.Err() != nil {
		return
	}
	w.filling = true
	if len(w.expected) > 0 {
		ino = w.expected[len(w.expected)-1].ino
	}
	// Behind: the file system asks while it holds its locks.
	a.tasks.Go(func() {
		a.mu.Lock()
		count, bytes := max(w.window, walkSkips)-len(w.expected), a.most
		for _, f := range w.expected {
			bytes -= f.size
		}
		a.mu.Unlock()
		next := a.files.following(ino, count)
		a.mu.Lock()
		defer a.mu.Unlock()
		w.filling = false
		for i, f := range next {
			if bytes -= f.size; bytes < 0 {
				next = next[:i]
				break
			}
		}
		w.expected = append(w.expected, next...)
		if w.window > 0 {
			a.fetch(next)
		}
	})
}

// fetch has files fetched; mu is held.
func (a *filesAhead) fetch(files []nextFile) {
	if a.ctx.Err() != nil {
		return
	}
	for _, f := range files {
		a.queue = append(a.queue, f.ino)
	}
	for range min(len(a.queue), aheadFetches-a.running) {
		a.running++
		a.tasks.Go(a.work)
	}
}

// work fetches queued files until none is left.
func (a *filesAhead) work() {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { a.running-- }()
	for len(a.queue) > 0 && a.ctx.Err() == nil {
		ino := a.queue[0]
		a.queue = a.queue[1:]
		a.mu.Unlock()
		a.files.fetchAhead(a.ctx, ino)
		a.mu.Lock()
	}
}

// wait waits for what is under way, after the end of the context.
func (a *filesAhead) wait() {
	a.mu.Lock()
	a.queue, a.walks = nil, nil // whoever has not seen the end of the context has begun by now
	a.mu.Unlock()
	a.tasks.Wait()
}
