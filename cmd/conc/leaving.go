package main

import (
	"sync"
	"time"
)

// leaveTime bounds what is done when the program leaves at once.
const leaveTime = 5 * time.Second

// leaving is what must be done even when the program leaves at once. A nil one does nothing.
type leaving struct {
	mu sync.Mutex // guards do
	do func()
}

// set says what it is; nil for nothing.
func (l *leaving) set(do func()) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do = do
}

// leave does it, as far as time allows.
func (l *leaving) leave() {
	l.mu.Lock()
	do := l.do
	l.mu.Unlock()
	if do == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(leaveTime):
	}
}
