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

// timerSlack is by how much the kernel may wake the threads of a mount's process later than they
// have asked for (prctl(2), PR_SET_TIMERSLACK). The runtime has a thread that looks after the
// others every 20 µs while there is something to do, which takes as much of a processor as the
// answers to small requests do. With this it does so every millisecond: soon enough, since
// nearly nothing here waits in the kernel but by way of the runtime.
const timerSlack = time.Millisecond

// coarsely calls start with coarse timers for the process that it starts: a thread of the runtime
// gets its slack from the one that starts the process, and keeps it.
func coarsely(start func() error) error {
	before, coarse := slack()
	if coarse {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
	return start()
}

// slack is that of the thread in nanoseconds, and whether it can be left as it is.
func slack() (ns int, coarse bool) {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return ns, err != nil || time.Duration(ns) >= timerSlack
}

// coarseEnv says that the program was executed again for the sake of its timers.
const coarseEnv = "BUNDLEFS_COARSE"

// beginAgain executes the program again with coarse timers, where nobody else starts the process
// that serves: in the foreground. It returns in the process that has them, or cannot have them.
func beginAgain(args []string) {
	if os.Getenv(coarseEnv) != "" {
		os.Unsetenv(coarseEnv)
		return
	}
	if _, coarse := slack(); coarse {
		return
	}
	if len(os.Args) == 0 || filepath.Base(os.Args[0]) != "bundlefs" || !slices.Equal(os.Args[1:], args) {
		return // called by another program, which goes on after this
	}
	_ = coarsely(func() error {
		return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), coarseEnv+"=1"))
	})
}
