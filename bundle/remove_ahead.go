package bundle

import (
	"context"
	"slices"

	"bundlefs/internal/remote"
)

// removal is the script that removes a bundle, started while there is still something to be done
// before: it waits for the token, without which it does nothing. A nil one is none.
type removal struct {
	cancel context.CancelFunc
	done   chan struct{}  // closed when what follows is what it will be
	client *remote.Client // nil: it could not be started without asking anything
	script *running       // nil also when it was taken
	args   []string
}

// removeAhead starts the script that removes the bundle; nil if that is not the way.
func (b *Bundle) removeAhead(ctx context.Context, st *State) *removal {
	args, err := st.removeArgs()
	if b.cfg.Ahead == nil || err != nil || st.Phase == PhaseRemoved {
		return nil
	}
	r := &removal{done: make(chan struct{}), args: args}
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer close(r.done)
		client := b.cfg.Ahead(ctx)
		if client == nil {
			return
		}
		if r.script, err = startScript(ctx, client, removeScript, args...); err != nil {
			b.log.Debug("the removal does not start early", "error", err)
			return
		}
		r.client = client
	}()
	return r
}

// wait gives the client on whose node the script runs; nil when it does not run, or its connection is lost.
func (r *removal) wait(ctx context.Context) *remote.Client {
	if r == nil {
		return nil
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil
	}
	if r.client == nil || r.client.Err() != nil {
		return nil
	}
	return r.client
}

// take gives the script, which is then the caller's, if it was started with these arguments. wait
// was called before.
func (r *removal) take(args []string) *running {
	if r == nil || !slices.Equal(r.args, args) {
		return nil
	}
	s := r.script
	r.script = nil
	return s
}

// drop ends a script that was not taken, before it has done anything.
func (r *removal) drop() {
	if r == nil {
		return
	}
	r.cancel()
	<-r.done
	if r.script != nil {
		r.script.abandon()
	}
}
