package vfs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// After an outage that was long, the pause between two tries to connect is long too.
// Who waits ends it, and is told of a failure only after a timeout of his own.
func TestWaitingEndsPause(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	var away atomic.Bool
	var tries atomic.Int64
	x, err := NewExclusive(t.Context(), ExclusiveOptions{
		Dial: func(ctx context.Context) (Conn, error) {
			tries.Add(1)
			if away.Load() {
				return nil, errors.New("the node is away")
			}
			return remote.Dial(ctx, n.TargetVia(link), remote.Options{})
		},
		Spool: filepath.Join(t.TempDir(), "spool"), Timeout: time.Minute, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	away.Store(true)
	link.Reset()
	for deadline := time.Now().Add(time.Minute); tries.Load() < 2; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody tries to connect again")
		}
	}
	// As after an hour.
	x.link.mu.Lock()
	x.link.lostAt = time.Now().Add(-time.Hour)
	x.link.mu.Unlock()
	if err := x.link.overdue(time.Now()); err != nil {
		t.Errorf("who has just come: %v", err)
	}
	if err := x.link.overdue(time.Now().Add(-2 * time.Minute)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who has waited for long: %v", err)
	}
	away.Store(false)
	if err := x.Sync(context.Background(), nil); err != nil {
		t.Errorf("the barrier: %v", err)
	}
	if _, err := x.Statfs(context.Background()); err != nil {
		t.Error(err)
	}

	// A pause of an hour, which somebody ends.
	rested := make(chan bool, 1)
	go func() { rested <- x.link.rest(time.Hour) }()
	done := x.link.want()
	if !<-rested {
		t.Error("the pause ended as after Close")
	}
	done()
	if x.link.waiting != 0 {
		t.Errorf("%d wait", x.link.waiting)
	}
}
