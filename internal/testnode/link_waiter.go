package testnode

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// waiter lets one goroutine wait for a change or a time. Its methods are called with the mutex
// of the pipe held, which is let go while waiting.
type waiter struct {
	cond  sync.Cond
	alarm *alarm
	timed bool // waits for the alarm
}

func (w *waiter) init(mu *sync.Mutex) (err error) {
	w.cond.L = mu
	w.alarm, err = newAlarm()
	return err
}

// idle waits for wake.
func (w *waiter) idle() { w.cond.Wait() }

// until waits for a time, or for wake if that is earlier.
func (w *waiter) until(t time.Time) {
	w.timed = true
	w.alarm.set(time.Until(t))
	w.cond.L.Unlock()
	w.alarm.wait()
	w.cond.L.Lock()
	w.timed = false
}

func (w *waiter) wake() {
	w.cond.Signal()
	if w.timed {
		w.alarm.set(0)
	}
}

func (w *waiter) close() { w.alarm.close() }

// alarm is a kernel timer to wait for. Go's own timers are up to a millisecond late when the
// program is idle, since epoll counts in milliseconds; this one is late by less than a tenth.
type alarm struct {
	file *os.File
	fd   int
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timer"), fd}, nil
}

// set makes the alarm ring after d, at once if that is not positive, and not before.
func (a *alarm) set(d time.Duration) {
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}
	_ = unix.TimerfdSettime(a.fd, 0, &at, nil)
}

// wait returns when the alarm has rung.
func (a *alarm) wait() {
	var rings [8]byte
	_, _ = a.file.Read(rings[:])
}

func (a *alarm) close() { a.file.Close() }
