package vfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// on runs one request on a session, which blocks until the node has answered, in
// such a way that the caller can leave: some time after ctx has ended, or when the
// session has been silent for the timeout. A link that is slow but moves is waited
// for. late, if not nil, is given what comes back when nobody waits any more.
func on[T any](ctx context.Context, t *transport, x onLane, request func() (T, error), late func(T)) (T, error) {
	var value T
	var failed error
	s, done := x.self(), make(chan struct{})
	s.inflight.Add(1)
	go func() {
		value, failed = request()
		s.inflight.Add(-1)
		close(done)
	}()
	err := t.await(ctx, done, x.silence)
	if err == nil {
		return value, failed
	}
	if late != nil {
		go func() {
			if <-done; failed == nil {
				late(value)
			}
		}()
	}
	var zero T
	return zero, err
}

// await waits until done is closed. It gives up some time after ctx has ended, or
// when the node has been silent for the timeout.
func (t *transport) await(ctx context.Context, done <-chan struct{}, silence func() time.Duration) error {
	select {
	case <-done:
		return nil
	default:
	}
	var limit <-chan time.Time
	var timer *time.Timer
	if t.timeout > 0 {
		if silence() >= t.timeout && t.givenUp() {
			return errNoAnswer
		}
		timer = time.NewTimer(t.timeout)
		defer timer.Stop()
		limit = timer.C
	}
	var grace <-chan time.Time
	interrupted := ctx.Done()
	for {
		select {
		case <-done:
			return nil
		case <-limit:
			if left := t.timeout - silence(); left > 0 {
				timer.Reset(left)
			} else {
				t.giveUp()
				return errNoAnswer
			}
		case <-interrupted:
			interrupted = nil
			wait := time.NewTimer(interruptGrace)
			defer wait.Stop()
			grace = wait.C
		case <-grace:
			return ctx.Err()
		}
	}
}

// errNoAnswer is the error of a request that the node has not answered for the timeout.
var errNoAnswer = fmt.Errorf("%w: no answer from the node", context.DeadlineExceeded)

// silence is how long the node has given no sign of life: on the connection there
// is, or since there is none.
func (t *transport) silence() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.current != nil:
		return t.current.silence()
	case t.lostAt.IsZero():
		return 0
	}
	return time.Since(t.lostAt)
}

// sending is how long none of the sessions for data has given a sign of life that owe
// an answer; silence, if none does.
func (t *transport) sending() time.Duration {
	c, _, _ := t.state()
	if c == nil {
		return t.silence()
	}
	least := time.Duration(0)
	for _, s := range c.senders() {
		if quiet := s.silence(); quiet > 0 && (least == 0 || quiet < least) {
			least = quiet
		}
	}
	return cmp.Or(least, t.silence())
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
			t.giveUp()
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
	s, start := c.pick(), time.Now()
	v, err := on(ctx, t, s, func() (T, error) { return request(s) }, late)
	if err == nil {
		t.metrics.rtt.took(time.Since(start))
	} else if isLost(err) {
		c.fail()
	}
	return v, err
}

// answered waits for the reply to a request that was sent on a session, until ctx ends, or
// the session has been silent for the timeout.
func answered[T any](ctx context.Context, t *transport, s *session, wait func(context.Context) (T, error)) (T, error) {
	if t.timeout == 0 {
		return wait(ctx)
	}
	if s.silence() >= t.timeout && t.givenUp() {
		var none T
		return none, errNoAnswer
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var mu sync.Mutex // guards timer and over
	var timer *time.Timer
	over := false
	mu.Lock()
	timer = time.AfterFunc(t.timeout, func() {
		mu.Lock()
		defer mu.Unlock()
		if left := t.timeout - s.silence(); over {
			return
		} else if left > 0 {
			timer.Reset(left)
			return
		}
		t.giveUp()
		end(errNoAnswer)
	})
	mu.Unlock()
	v, err := wait(ctx)
	mu.Lock()
	over = true
	timer.Stop()
	mu.Unlock()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return v, err
}

// rootPatience is how long the node is waited for by what asks about the root of the
// mount: umount(8) and fusermount3(1) do so first of all.
const rootPatience = 500 * time.Millisecond

// always asks the node for what must have an answer also when the node gives none: if
// there is no connection, or the answer is not there in time, it is what is known. While
// somebody has waited in vain, nobody else waits. The question is asked to its end, so
// that what is known gets better.
func always[T any](t *transport, question func(ctx context.Context) (T, error), known func() T) (T, error) {
	if c, _, _ := t.state(); c == nil || c.isLost() || t.vain.Load() > 0 {
		return known(), nil
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer)
	left := make(chan struct{})
	t.tasks.Go(func() {
		var a answer
		a.value, a.err = question(t.ctx)
		select {
		case answers <- a:
		case <-left:
			t.vain.Add(-1)
		}
	})
	patience := time.NewTimer(rootPatience)
	defer patience.Stop()
	select {
	case a := <-answers:
		if isLost(a.err) || errors.Is(a.err, context.DeadlineExceeded) {
			return known(), nil
		}
		return a.value, a.err
	case <-patience.C:
		t.vain.Add(1)
		close(left)
		return known(), nil
	}
}

// alwaysDo is always for a question whose answer is noted where it is asked.
func alwaysDo(t *transport, question func(ctx context.Context) error) error {
	type none struct{}
	_, err := always(t, func(ctx context.Context) (none, error) { return none{}, question(ctx) }, func() none { return none{} })
	return err
}
