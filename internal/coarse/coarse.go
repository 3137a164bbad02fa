// Package coarse starts Go programs with timers that need not be exact, for those that answer many
// small requests.
//
// The runtime of such a program has a thread that looks after the others every 20 µs as long as
// there is something to do, which can take as much of a processor as the answers do. With a
// timer slack of a millisecond (prctl(2), PR_SET_TIMERSLACK) it does so every millisecond. That is
// soon enough where nearly nothing waits in the kernel but by way of the runtime. Its own timers
// may be as much late.
//
// A thread gets its slack from the one that has started it, and keeps it through execve(2). So it
// is for who starts a program to give it; the program itself cannot give it to its runtime.
package coarse

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// slack is by how much the kernel may wake a thread later than it has asked for.
const slack = time.Millisecond

// Start calls start so that a process that it starts, or the program that it executes, has coarse
// timers, if they can be had. Its error is that of start.
func Start(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, coarse := now()
	if coarse {
		return start()
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
	return start()
}

// Have reports whether this process has coarse timers, or cannot have them.
func Have() bool {
	_, coarse := now()
	return coarse
}

// now is the slack of the thread, in nanoseconds, and whether it can be left as it is.
func now() (ns int, coarse bool) {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return ns, err != nil || time.Duration(ns) >= slack
}
