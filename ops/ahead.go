package ops

import (
	"context"
	"slices"
)

// early is an agent that is being started while something else is done.
type early struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when agent is what it will be
	agent  *agent        // nil when it could not be started without asking anything
}

// ahead begins to start the agent for the first remote step, if that needs it: meanwhile what is
// before it is done. A failure is found out by who needs the agent.
func (w *work) ahead(ctx context.Context, steps []Step) {
	first := slices.IndexFunc(steps, func(s Step) bool { return s.Host == Remote })
	if w.agent != nil || w.env.Ahead == nil || first < 0 || !steps[first].byAgent() {
		return
	}
	e := &early{done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	w.early = e
	go func() {
		defer close(e.done)
		client := w.env.Ahead(ctx)
		if client == nil {
			return
		}
		a, err := startAgent(ctx, client, w.env.Node.Python(), nil, w.log)
		if err != nil {
			w.log.Debug("the agent does not start early", "error", err)
			return
		}
		e.agent = a
	}()
}

// take gives the agent that was started early; nil when there is none that lives.
func (e *early) take(ctx context.Context) *agent {
	if e == nil {
		return nil
	}
	select {
	case <-e.done:
	case <-ctx.Done(): // no more of it is waited for
	}
	e.cancel()
	<-e.done
	a := e.agent
	e.agent = nil
	if a != nil && a.reason() != nil {
		a.close()
		return nil
	}
	return a
}

// drop ends an agent that nobody took.
func (e *early) drop() {
	if e == nil {
		return
	}
	e.cancel()
	<-e.done
	if e.agent != nil {
		e.agent.close()
	}
}
