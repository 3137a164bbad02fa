package testnode

import (
	"math/rand/v2"
	"testing"
	"time"
)

// usefulBytes come from a node before a connection was of use: about 5,000 are those of
// its beginning, with six SFTP sessions.
const usefulBytes = 6 << 10

// CutAtRandom cuts the link at random moments until the test ends: mostly so that
// both sides notice at once, sometimes silently. In between it holds for least, and
// as long again, and until a connection has had time to be made anew and to be of use:
// on a machine that is busy that takes longer.
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
	useful := func(since int64) bool {
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && l.Counters().Down < since+usefulBytes; {
			if !pause(20 * time.Millisecond) {
				return false
			}
		}
		return true
	}
	go func() {
		defer close(done)
		for came := int64(0); pause(least+rand.N(least)) && useful(came); came = l.Counters().Down {
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
