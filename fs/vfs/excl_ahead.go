package vfs

import (
	"errors"

	"bundlefs/internal/sftpwire"
)

// Whoever lists a folder and its subfolders wants to list those next, and would
// wait some round trips for each. So the subfolders of a listed folder are listed
// ahead, breadth first, some at a time.
const (
	// aheadWorkers is how many folders are listed ahead at a time.
	aheadWorkers = 64
	// aheadFolders is how many more may be listed ahead for each that a program
	// lists, and aheadMost how many at the most before it lists another.
	aheadFolders = 256
	aheadMost    = 1024
	// aheadCost is how many entries count as one more folder: each takes memory.
	aheadCost = 64
)

// ahead are the folders to be listed ahead.
type ahead struct {
	queue   []*xnode
	budget  int
	running int
}

// listAhead has the subfolders of n listed, since a program lists n; mu is held.
func (x *Exclusive) listAhead(n *xnode) {
	x.ahead.budget = min(max(x.ahead.budget, 0)+aheadFolders, aheadMost)
	x.queueAhead(n)
}

// queueAhead queues the subfolders of n as far as the budget goes; mu is held.
func (x *Exclusive) queueAhead(n *xnode) {
	a := &x.ahead
	for _, d := range n.children {
		if c := d.local; c != nil && c.isDir() && !c.complete && !c.loading && len(a.queue) < a.budget {
			a.queue = append(a.queue, c)
		}
	}
	for a.running < min(aheadWorkers, len(a.queue)) && !x.draining {
		a.running++
		x.tasks.Go(x.workAhead)
	}
}

// workAhead lists queued folders until none is left.
func (x *Exclusive) workAhead() {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := &x.ahead
	defer func() { a.running-- }()
	for len(a.queue) > 0 && a.budget > 0 && !x.draining {
		n := a.queue[0]
		a.queue = a.queue[1:]
		if n.complete || n.loading || n.dead() {
			continue
		}
		a.budget--
		x.mu.Unlock()
		n, err := x.folderWithin(x.ctx, n.ino, aheadEntries) // which takes mu again
		switch {
		case err == nil:
			a.budget -= len(n.children) / aheadCost
			x.queueAhead(n)
		case errors.Is(err, sftpwire.ErrTooLarge):
			a.budget -= aheadEntries / aheadCost
		}
		// An error is for the program that lists the folder itself.
	}
	if a.budget <= 0 {
		a.queue = nil
	}
}
