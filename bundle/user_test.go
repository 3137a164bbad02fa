package bundle

import (
	"runtime"
	"syscall"
)

// notRoot makes this goroutine's thread an ordinary user's, for good: the thread ends with it.
func notRoot() {
	runtime.LockOSThread()
	const nobody = 65534
	syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody)
}
