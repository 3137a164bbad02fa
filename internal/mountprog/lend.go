package mountprog

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"bundlefs/internal/control"
	"bundlefs/internal/remote"
)

var _ control.Taker = (*serving)(nil)

// lendTime is how long a process that asks for the connection waits for the node at most.
const lendTime = 5 * time.Second

// lentTime is how long processes may go on with the connection when the mount has ended: as long as
// they run something on the node, and then for this time; after a signal for this time in all.
const lentTime = time.Minute

// lender has the connections to the node that other processes of this user go on with.
type lender struct {
	mu      sync.Mutex // guards what follows
	current *remote.Shared
	all     []*remote.Shared // those that have not ended; some of them the mount has left
}

// share makes a new connection of the mount one that is lent; ahead as in remote.Share.
func (l *lender) share(c *remote.Client, ahead bool) (*remote.Shared, error) {
	s, err := remote.Share(c, ahead)
	if err != nil {
		c.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = s
	l.all = append(l.standing(), s)
	return s, nil
}

// standing are the connections that have not ended; mu is held.
func (l *lender) standing() []*remote.Shared {
	l.all = slices.DeleteFunc(l.all, func(s *remote.Shared) bool { return s.Err() != nil })
	return l.all
}

// Take implements control.Taker: control.Connection lends the connection to the node.
func (s *serving) Take(ctx context.Context, op string, _ json.RawMessage) (any, func(net.Conn), error) {
	if op != control.Connection {
		return nil, nil, &control.UnknownOpError{Op: op}
	}
	s.cfg.lender.mu.Lock()
	current := s.cfg.lender.current
	s.cfg.lender.mu.Unlock()
	if current == nil {
		return nil, nil, remote.ErrNotLent
	}
	ctx, cancel := context.WithTimeout(ctx, lendTime)
	defer cancel()
	loan, err := current.Lend(ctx)
	if err != nil {
		return nil, nil, err
	}
	return control.ConnectionAnswer{Key: loan.Key()}, loan.Serve, nil
}

// await returns when nobody uses the connections any more, or may no longer do so, and no connection
// is left. The mount has ended; signalled tells whether by a signal. most is lentTime.
func (l *lender) await(signals <-chan os.Signal, signalled bool, most time.Duration) {
	tick := time.NewTicker(most / 60)
	defer tick.Stop()
	for start := time.Now(); ; {
		l.mu.Lock()
		standing := slices.Clone(l.standing())
		l.mu.Unlock()
		if len(standing) == 0 {
			return
		}
		for _, s := range standing {
			if s.Quiet() > most || signalled && time.Since(start) > most {
				s.Close()
			}
		}
		select {
		case <-standing[0].Done():
		case <-tick.C:
		case <-signals:
			for _, s := range standing {
				s.Close()
			}
		}
	}
}
