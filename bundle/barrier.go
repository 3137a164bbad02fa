package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"bundlefs/internal/control"
)

const (
	watchPause = 250 * time.Millisecond // between two looks at a barrier
	watchStill = 5 * time.Second        // a barrier that gets no further for so long is looked into
)

// Progress is how far a barrier has come; numbers that are not known are 0.
type Progress struct {
	Files int64 `json:"files"` // files to go
	Bytes int64 `json:"bytes"` // bytes to go
}

// Refused is a change that the node refuses; the mount keeps it with its data.
type Refused struct {
	Path  string `json:"path"`  // in the mount
	Errno string `json:"errno"` // as "ENOSPC"
	Error string `json:"error"`
}

// MountStatus is what a mount tells about itself, as far as it matters here.
type MountStatus struct {
	PID       int       `json:"pid"`
	Version   string    `json:"version"`    // of the program that serves it
	Connected bool      `json:"connected"`  // the link is up
	LinkError string    `json:"link_error"` // why it is not
	Pending   Progress  `json:"pending"`    // what is not on the node yet
	Refused   []Refused `json:"refused"`    // what the node does not take
	Fence     string    `json:"fence"`      // why nothing is written any more: the lock is lost
	Doubt     string    `json:"doubt"`      // what was given up, and may still act on the node
	Unfenced  string    `json:"unfenced"`   // why the node could not take back what is under way
	Unmounted bool      `json:"unmounted"`  // it is about to end
}

// Sync is the barrier: it returns when all that was written into the mount is
// on the node. What the node has refused is tried once more; if it refuses
// again the error is a *RefusedError. *LostError: the lock is lost. *LinkError,
// or one of package remote: the node cannot be reached. progress may be nil.
func (b *Bundle) Sync(ctx context.Context, progress func(Progress)) error {
	st, err := b.open()
	if err != nil {
		return err
	}
	return b.barrier(ctx, st, "sync", nil, "", progress)
}

// Send is Sync for who has the lock proved on the node itself: where nothing was
// written, the node is not asked for anything.
func (b *Bundle) Send(ctx context.Context, progress func(Progress)) error {
	st, err := b.open()
	if err != nil {
		return err
	}
	return b.barrier(ctx, st, "sync", map[string]bool{"lease": false}, "", progress)
}

// Drop makes the mount forget what it knows of the node's content, so that
// what a remote step wrote is seen at once.
func (b *Bundle) Drop(ctx context.Context) error {
	st, err := b.open()
	if err != nil {
		return err
	}
	return b.explain(request(ctx, b.place(st), "drop", nil, nil, nil))
}

// Discard gives up all that the node refuses to take, and tells what that was:
// the files are again as the node has them. A mount that has died is mounted
// again for it.
func (b *Bundle) Discard(ctx context.Context) ([]Refused, error) {
	release, err := b.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	st, err := b.open()
	if err != nil {
		return nil, err
	}
	if !b.Mounted(ctx) {
		if st.spool() == "" {
			return nil, nil
		}
		if err := b.Mount(ctx); err != nil {
			return nil, err
		}
	}
	var given []Refused
	for vain := 0; ; {
		err := b.barrier(ctx, st, "sync", nil, "", nil)
		var refused *RefusedError
		if !errors.As(err, &refused) {
			return given, err
		}
		// What waited for these may be refused in its turn.
		var result struct {
			Changes int `json:"changes"`
		}
		err = request(ctx, b.place(st), "discard", map[string]string{"path": ""}, &result, nil)
		switch {
		case err == nil && result.Changes > 0:
			given = append(given, refused.Changes...)
		case err != nil && !errors.Is(err, syscall.ENOENT):
			return given, b.explain(err)
		default: // it was just being tried again by itself
			if vain++; vain > 3 {
				return given, refused
			}
		}
	}
}

// barrier asks the mount for op, with its args, which has a barrier in it. before says what is
// not done when the node refuses something; "" if the barrier is all there is.
func (b *Bundle) barrier(ctx context.Context, st *State, op string, args any, before string, progress func(Progress)) error {
	if how, p := probe(ctx, b.place(st)); how == hung {
		return withHint(fmt.Errorf("mount %s: the mount program %s does not answer", b.place(st), p),
			fmt.Sprintf("'conc mount %s' ends it and mounts again: what it has not sent is kept, and sent by the next one", st.Node))
	} else if err := ctx.Err(); err != nil {
		return err
	}
	// Who mended the cause of a refusal need not say so. A mount without
	// refusals has nothing to be tried again; one that is dead tells below.
	request(ctx, b.place(st), "retry", nil, nil, nil)

	if another := b.anotherVersion(ctx, st); another != "" {
		b.aged.Do(func() { b.log.Warn(another+": 'conc mount "+st.Node+"' mounts it again", "node", st.Node) })
	}
	watched, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.watch(watched, b.place(st), cancel)
	}()
	var result struct {
		Doubt string `json:"doubt"`
	}
	err := request(watched, b.place(st), op, args, &result, func(raw json.RawMessage) {
		var p Progress
		if progress != nil && json.Unmarshal(raw, &p) == nil {
			progress(p)
		}
	})
	cancel(nil)
	<-ended
	var gone *unreachable
	switch cause := context.Cause(watched); {
	case err == nil:
		if result.Doubt != "" {
			b.log.Warn(clean(result.Doubt), "node", st.Node)
		}
		return nil
	case ctx.Err() == nil && errors.As(cause, &gone):
		return fmt.Errorf("what was written is not on the node yet: %w", gone.err)
	}
	return b.failedBarrier(ctx, st, before, err)
}

// unreachable is the cause that ends a barrier on a node that cannot be reached.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }

// watch looks after a barrier until ctx ends. The mount waits for its link for
// quite a while, and cannot say what to do; so when its link is down, or nothing
// moves, we try to reach the node ourselves, and end the barrier with the reason
// if we cannot.
func (b *Bundle) watch(ctx context.Context, folder string, end context.CancelCauseFunc) {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	var last Progress
	moved := time.Now()
	for {
		var m MountStatus
		if status(ctx, folder, &m) != nil {
			return // the barrier finds that out, too
		}
		if m.Pending != last {
			last, moved = m.Pending, time.Now()
		}
		ending := m.Unmounted && m.Pending == Progress{} // and with it its link
		if !ending && (!m.Connected || time.Since(moved) > watchStill) {
			client, done, err := b.connect(ctx)
			if err != nil {
				end(&unreachable{err})
				return
			}
			select {
			case <-ctx.Done():
				done()
				return
			case <-client.Done(): // lost again
				done()
				moved = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// failedBarrier finds out why a barrier failed: the mount tells.
func (b *Bundle) failedBarrier(ctx context.Context, st *State, before string, err error) error {
	var answered *control.Error
	if !errors.As(err, &answered) {
		return b.explain(err)
	}
	var m MountStatus
	if status(ctx, b.place(st), &m) != nil {
		return err
	}
	switch {
	case m.Fence != "":
		return b.lostLock(ctx, st)
	case !m.Connected && m.Pending.Files > 0:
		return &LinkError{Node: st.Node, Reason: m.LinkError, Pending: m.Pending, Err: err}
	case len(m.Refused) > 0 && !errors.Is(err, syscall.EBUSY):
		return &RefusedError{Node: st.Node, MountPoint: b.place(st), Changes: m.Refused, Before: before}
	}
	return err
}

// Lost asks the node whether the lock is still ours: a *LostError when it is not, any other error
// when it cannot be asked.
func (b *Bundle) Lost(ctx context.Context) error {
	st, err := b.open()
	if err != nil {
		return err
	}
	h, err := b.Holder(ctx)
	if err != nil || h.Ours {
		return err
	}
	return lost(st, h)
}

// lostLock is the error when the lock is lost, with the holder if that can be
// found out.
func (b *Bundle) lostLock(ctx context.Context, st *State) error {
	h, err := b.Holder(ctx)
	if err != nil {
		return lost(st, &Holder{Found: true})
	}
	return lost(st, h)
}

// lost is the error that somebody else, or nobody, has the lock of ours.
func lost(st *State, h *Holder) *LostError {
	e := &LostError{Node: st.Node, Dir: st.Dir, Spool: st.spool(), Record: h.Record, Reason: h.Reason}
	if !h.Found {
		e.Reason = "it is gone from the node"
	}
	return e
}

// explain adds what to do when there is no mount.
func (b *Bundle) explain(err error) error {
	if errors.Is(err, control.ErrNotMounted) {
		return withHint(err, fmt.Sprintf("mount it again with 'conc mount %s'", b.cfg.Node))
	}
	return err
}

// status asks a mount how it is, and the node nothing.
func status(ctx context.Context, folder string, m *MountStatus) error {
	return request(ctx, folder, "status", map[string]bool{"ping": false}, m, nil)
}

// request sends one request to the program that serves a mount.
func request(ctx context.Context, folder, op string, args, result any, progress func(json.RawMessage)) error {
	c, err := control.Dial(ctx, folder)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, op, args, result, progress)
}
