package vfs

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// allNames is the weight of excluding everybody else.
const allNames = 1 << 30

// rlock takes one unit of a name lock, lock all of it.
func rlock(ctx context.Context, s *semaphore.Weighted) error { return acquire(ctx, s, 1) }
func lock(ctx context.Context, s *semaphore.Weighted) error  { return acquire(ctx, s, allNames) }

// acquire gives up with ctx, but not before the grace that a request has.
func acquire(ctx context.Context, s *semaphore.Weighted, units int64) error {
	if s.Acquire(ctx, units) == nil {
		return nil
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), interruptGrace)
	defer cancel()
	if s.Acquire(grace, units) == nil {
		return nil
	}
	return ctx.Err()
}
