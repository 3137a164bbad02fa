package mountprog

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/fs"
	"bundlefs/internal/coarse"
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
	for last := int64(0); ; {
		if limit := heapBase + heapInode*int64(server.Status().Inodes); limit != last {
			debug.SetMemoryLimit(limit)
			last = limit
		}
		select {
		case <-period.C:
		case <-server.Done():
			return
		}
	}
}

// boundProcessors leaves half of the processors to the programs that use the mount. Nearly all
// that is done for them is done for one request after the other, which gains nothing by a second
// processor: the runtime wakes it for each step of a request, and it looks for work that is not
// there. GOMAXPROCS in the environment wins.
var boundProcessors = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
})

// coarseEnv says that the program was executed again for the sake of its timers.
const coarseEnv = "BUNDLEFS_COARSE"

// beginAgain executes the program again with coarse timers, where nobody else starts the process
// that serves: in the foreground. It returns in the process that has them, or cannot have them.
func beginAgain(args []string) {
	if os.Getenv(coarseEnv) != "" {
		os.Unsetenv(coarseEnv)
		return
	}
	if len(os.Args) == 0 || filepath.Base(os.Args[0]) != "bundlefs" || !slices.Equal(os.Args[1:], args) {
		return // called by another program, which goes on after this
	}
	if coarse.Have() {
		return
	}
	_ = coarse.Start(func() error {
		return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), coarseEnv+"=1"))
	})
}
