package vfs

import (
	"maps"
	"slices"
	"time"
)

// What is in the spool survives the end of this process. So that it mostly survives a
// crash of the workstation, too, it is brought to the disk every other moment, behind
// the writers' backs: the data first, then the journal, which must not tell of data that
// is not there. What a power loss takes is what was acknowledged since.

// syncEvery is how often the spool is brought to the disk.
const syncEvery = 2 * time.Second

// keepSynced does so until Close.
func (x *Exclusive) keepSynced() {
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-x.ctx.Done():
			return
		case <-ticker.C:
			x.syncSpool()
		}
	}
}

// syncSpool brings to the disk what was put into the spool since it was called last.
func (x *Exclusive) syncSpool() {
	x.syncing.Lock() // or another's journal would be there before our data
	defer x.syncing.Unlock()
	x.mu.Lock()
	files := slices.Collect(maps.Keys(x.unsynced))
	clear(x.unsynced)
	x.mu.Unlock()
	for i, ino := range files {
		if err := x.spool.SyncData(uint64(ino)); err != nil {
			x.log.Warn("cannot bring the spool to the disk", "error", err)
			x.mu.Lock()
			for _, left := range files[i:] {
				x.unsynced[left] = true
			}
			x.mu.Unlock()
			return
		}
	}
	if !x.spool.Unsynced() {
		return
	}
	if err := x.spool.Sync(); err != nil {
		x.log.Warn("cannot bring the journal to the disk", "error", err)
	}
}
