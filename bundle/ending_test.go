package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"bundlefs/internal/control"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
	"bundlefs/internal/version"
)

// endingMount is a mount that was unmounted: its link has ended with it, and its process is about to.
type endingMount struct {
	pending int
	asked   atomic.Int32
	looked  chan struct{} // closed when its state was asked for often enough
}

func (m *endingMount) Handle(ctx context.Context, op string, _ json.RawMessage, _ func(any)) (any, error) {
	switch op {
	case "status":
		if m.asked.Add(1) == 2 { // which version it is, and by who looks after the barrier
			close(m.looked)
		}
		return map[string]any{
			"version": version.String(), "pid": os.Getpid(), "connected": false, "unmounted": true,
			"pending": Progress{Files: int64(m.pending)},
		}, nil
	case "sync":
		if m.pending > 0 { // until who asked gives up
			<-ctx.Done()
		}
		select {
		case <-m.looked:
		case <-ctx.Done():
		}
	}
	return struct{}{}, nil
}

// Who waits for a barrier does not take the end of a mount for the loss of its link, unless something
// is still to be sent.
func TestEndOfMountIsNoLoss(t *testing.T) {
	n := testnode.Start(t)
	for pending, want := range []int32{0, 1} {
		cfg := config(t, n, "b")
		b := mustLock(t, cfg)
		var tried atomic.Int32
		b.cfg.Connect = func(context.Context) (*remote.Client, error) {
			tried.Add(1)
			return nil, errors.New("no connection in this test")
		}
		st, _ := b.State()
		ctl, err := control.Listen(b.place(&st), &endingMount{pending: pending, looked: make(chan struct{})})
		if err != nil {
			t.Fatal(err)
		}
		err = b.Sync(t.Context(), nil)
		if got := tried.Load(); got != want || want == 0 && err != nil {
			t.Errorf("%d files pending: %d tries to connect, want %d; %v", pending, got, want, err)
		}
		ctl.Close()
		b.cfg.Connect = nil
		mustClose(t, b)
	}
}
