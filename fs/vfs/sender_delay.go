package vfs

import "time"

// Attributes alone are sent when they have been left in peace for a while: who changes
// them once often does so again, and thousands of times now and then. Whoever waits
// for them has them sent at once, and a storm is told from time to time.

const (
	attrQuiet = 100 * time.Millisecond // without another change
	attrMost  = time.Second            // since the first
)

// putOff is a work that only sends attributes, and when they were changed.
type putOff struct{ first, last time.Time }

// putOffAttr puts off a work that has nothing to send but attributes; false if that
// must not be. mu is held.
func (x *Exclusive) putOffAttr(w *work) bool {
	if x.barriers > 0 || w.n.pressed || len(w.n.gate.waiters) > 0 || x.draining {
		delete(x.putOff, w)
		return false
	}
	now := time.Now()
	p, ok := x.putOff[w]
	if !ok {
		p = putOff{first: now}
	}
	if now.Sub(p.first) >= attrMost {
		delete(x.putOff, w)
		return false
	}
	p.last = now
	x.putOff[w] = p
	if !x.putOffTimer {
		x.putOffTimer = true
		time.AfterFunc(attrQuiet, x.sendPutOff)
	}
	return true
}

// sendPutOff sends the attributes that were left in peace.
func (x *Exclusive) sendPutOff() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.draining {
		return
	}
	now := time.Now()
	for w, p := range x.putOff {
		if now.Sub(p.last) >= attrQuiet || now.Sub(p.first) >= attrMost {
			x.hurryAttr(w)
		}
	}
	if x.putOffTimer = len(x.putOff) > 0; x.putOffTimer {
		time.AfterFunc(attrQuiet, x.sendPutOff)
	}
}

// hurryAttr sends attributes that were put off; mu is held.
func (x *Exclusive) hurryAttr(w *work) {
	delete(x.putOff, w)
	w.n.pressed = true
	x.queue(w)
}

// hurry sends all that was put off; mu is held.
func (x *Exclusive) hurry() {
	x.flushDelayed()
	for w := range x.putOff {
		x.hurryAttr(w)
	}
}
