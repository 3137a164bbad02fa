package vfs

import (
	"context"
	"fmt"
	"time"
)

// on runs one request on session s, which blocks until the node has answered
// (pkg/sftp knows no contexts), in such a way that the caller can leave: some time
// after ctx has ended, or when the link has been silent for the timeout. A link
// that is slow but moves is waited for. late, if not nil, is given what comes back
// when nobody waits any more.
func on[T any](ctx context.Context, t *transport, s *session, request func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	answer := make(chan result, 1)
	s.inflight.Add(1)
	go func() {
		v, err := request()
		s.inflight.Add(-1)
		answer <- result{v, err}
	}()
	var limit <-chan time.Time
	var timer *time.Timer
	if t.timeout > 0 {
		timer = time.NewTimer(t.timeout)
		defer timer.Stop()
		limit = timer.C
	}
	var grace <-chan time.Time
	interrupted := ctx.Done()
	var err error
	for err == nil {
		select {
		case r := <-answer:
			return r.value, r.err
		case <-limit:
			if left := t.timeout - s.conn.silence(); left > 0 {
				timer.Reset(left)
			} else {
				err = fmt.Errorf("%w: no answer from the node", context.DeadlineExceeded)
			}
		case <-interrupted:
			interrupted = nil
			wait := time.NewTimer(interruptGrace)
			defer wait.Stop()
			grace = wait.C
		case <-grace:
			err = ctx.Err()
		}
	}
	if late != nil {
		go func() {
			if r := <-answer; r.err == nil {
				late(r.value)
			}
		}()
	}
	var zero T
	return zero, err
}

// ask runs a request that may be repeated when the connection is lost under it.
func ask[T any](ctx context.Context, t *transport, request func(s *session) (T, error)) (T, error) {
	start := time.Now()
	for {
		v, err := once(ctx, t, request, nil)
		if err == nil || !isLost(err) || t.ctx.Err() != nil {
			return v, err
		}
		if t.timeout > 0 && time.Since(start) > t.timeout {
			return v, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// once runs a request on any session, one time.
func once[T any](ctx context.Context, t *transport, request func(s *session) (T, error), late func(T)) (T, error) {
	c, err := t.get(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	s := c.pick()
	v, err := on(ctx, t, s, func() (T, error) { return request(s) }, late)
	if isLost(err) {
		c.fail()
	}
	return v, err
}
