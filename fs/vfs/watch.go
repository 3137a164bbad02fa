package vfs

import (
	"fmt"
	"time"
)

// A server may hang although the link stands, and its sshd answers keepalives. So a session
// that owes an answer for as long as keepalives are waited for ends its connection, as a
// link that is gone does.

const (
	// aliveLimit is for how long, where the connection does not say.
	aliveLimit = 45 * time.Second

	// fsyncFactor is how much longer the answer to an fsync may take.
	fsyncFactor = 10

	// Each time that this was in vain, since the next server hangs too, the next one may
	// take twice as long, hangsMost times at most, until none has hung for hangsAge times
	// as long: what the node does may just take its time.
	hangsMost = 4
	hangsAge  = 10
)

// limited is a connection that says how long the other end may be silent until it counts
// as lost; 0: for ever.
type limited interface{ AliveLimit() time.Duration }

// watch ends a connection of which a server hangs.
func (t *transport) watch(c *connection) {
	limit := aliveLimit
	if l, ok := c.conn.(limited); ok {
		limit = l.AliveLimit()
	}
	if limit <= 0 {
		return
	}
	limit = t.patience(limit)
	tick := time.NewTicker(max(limit/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-c.lost:
			return
		case <-tick.C:
		}
		for s := range c.all() {
			quiet := s.silence()
			if _, slow := s.Oldest(); quiet < limit || slow && quiet < fsyncFactor*limit {
				continue
			}
			t.mu.Lock()
			t.hangs, t.hungAt = min(t.hangs+1, hangsMost), time.Now()
			t.mu.Unlock()
			c.hang(fmt.Errorf("the SFTP server on the node has not answered for %v", quiet.Round(time.Millisecond)))
			return
		}
	}
}

// patience is the limit to the silence of a server.
func (t *transport) patience(limit time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := limit << t.hangs; time.Since(t.hungAt) < hangsAge*now {
		return now
	}
	t.hangs = 0
	return limit
}
