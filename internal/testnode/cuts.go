package testnode

import (
	"math/rand/v2"
	"testing"
	"time"
)

// CutAtRandom cuts the link at random moments until the test ends: mostly so that
// both sides notice at once, sometimes silently. In between it holds for least, and
// as long again.
func (l *Link) CutAtRandom(t testing.TB, least time.Duration) {
	stop, done := make(chan struct{}), make(chan struct{})
	pause := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-stop:
			return false
		case <-timer.C:
			return true
		}
	}
	go func() {
		defer close(done)
		for pause(least + rand.N(least)) {
			switch rand.N(6) {
			case 0:
				l.Drop()
				ok := pause(rand.N(300 * time.Millisecond))
				l.Heal()
				if !ok {
					return
				}
			case 1:
				l.Drop() // for as long as it takes to notice
				ok := pause(4 * time.Second)
				l.Heal()
				if !ok {
					return
				}
			default:
				l.Reset()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}
