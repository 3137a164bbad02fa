package mountprog

import (
	"os"
	"runtime/debug"
	"time"

	"bundlefs/fs"
)

const (
	// heapBase is the memory of the Go runtime that leaves room for the program itself within 64 MiB.
	heapBase = 40 << 20
	// heapInode is the memory for each file that is known.
	heapInode = 1 << 10
	// heapPeriod is how often the limit follows the number of files.
	heapPeriod = 250 * time.Millisecond
)

// boundHeap has garbage collected as early as the bound on memory asks for, until
// the mount has ended. GOMEMLIMIT in the environment wins.
func boundHeap(server *fs.Server) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	period := time.NewTicker(heapPeriod)
	defer period.Stop()
	for {
		debug.SetMemoryLimit(heapBase + heapInode*int64(server.Status().Inodes))
		select {
		case <-period.C:
		case <-server.Done():
			return
		}
	}
}
