package bundle

import (
	"context"
	"fmt"

	"bundlefs/internal/control"
	"bundlefs/internal/remote"
)

// Lent gives a connection to the node over that of the mount program, which has one anyway: it
// takes no handshake with the node. It is the caller's to close, lives on when the bundle is
// unmounted, and ends with the mount program and when the link is lost. The error is why there
// is none, as when the bundle is not mounted or the mount program has no link: the caller has to dial.
//
// What goes over it can be read by the mount program, which lives for longer than this process:
// it is not for passwords.
func (b *Bundle) Lent(ctx context.Context) (*remote.Client, error) {
	st, err := b.open()
	if err != nil {
		return nil, err
	}
	ours, _, err := b.findMount(st)
	if err != nil {
		return nil, err
	}
	if !ours {
		return nil, fmt.Errorf("%s: %w", b.place(st), control.ErrNotMounted)
	}
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	c, err := control.Dial(ctx, b.place(st))
	if err != nil {
		return nil, err
	}
	var answer control.ConnectionAnswer
	conn, err := c.Take(ctx, control.Connection, nil, &answer)
	if err != nil {
		c.Close()
		return nil, err
	}
	return remote.Over(ctx, conn, answer.Key, b.cfg.Target, remote.Options{Log: b.log})
}
