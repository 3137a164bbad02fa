package bundle

import (
	"context"
	"fmt"
	"time"
)

// Holder says who holds a bundle on a node.
type Holder struct {
	Found  bool      // there is a bundle
	Ours   bool      // the one that this workstation opened
	Record *Record   // nil when unknown
	Since  time.Time // of the record, or the folder's mtime
	Reason string    // why Record is nil
}

// Holder asks the node who holds the bundle.
func (b *Bundle) Holder(ctx context.Context) (*Holder, error) {
	client, done, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	h, err := b.look(ctx, client, nil)
	if err != nil {
		return nil, err
	}
	st, ok := b.State()
	return &Holder{
		Found: h.found, Record: h.Record, Since: h.since, Reason: h.reason,
		Ours: ok && h.Record != nil && h.Token == st.Record.Token,
	}, nil
}

// Break breaks a lock that is somebody else's, who was as seen by Holder. What
// is in the bundle is not removed: the folder is renamed, which also tells its
// holder that the lock is lost, and the new name is returned; "" when there was
// nothing in it. Refused for a bundle of ours, which is to be closed.
func (b *Bundle) Break(ctx context.Context, seen *Holder) (aside string, err error) {
	release, err := b.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if !seen.Found {
		return "", fmt.Errorf("unlock %s on %s: there is no bundle", b.cfg.Dir, b.cfg.Node)
	}
	if seen.Ours {
		return "", withHint(fmt.Errorf("unlock %s on %s: %w: this workstation holds it", b.cfg.Dir, b.cfg.Node, ErrBlocked),
			fmt.Sprintf("end it with 'conc close %s'", b.cfg.Node))
	}
	client, done, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	node, err := client.SFTP(ctx)
	if err != nil {
		return "", fmt.Errorf("unlock %s: sftp: %w", b.cfg.Dir, err)
	}
	defer node.Close()
	if node.RemoveDirectory(b.cfg.Dir) == nil { // it was empty: an opening that was interrupted
		return "", nil
	}
	h, err := b.look(ctx, client, nil)
	if err != nil {
		return "", err
	}
	if !h.found || !sameHolder(h, seen) {
		return "", withHint(fmt.Errorf("unlock %s on %s: %w: it has changed hands meanwhile", b.cfg.Dir, b.cfg.Node, ErrBlocked), "look again whose it is")
	}
	aside = fmt.Sprintf("%s.unlocked-%s-%s", b.cfg.Dir, time.Now().UTC().Format("20060102T150405Z"), newToken()[:6])
	if err := node.Rename(b.cfg.Dir, aside); err != nil {
		return "", fmt.Errorf("unlock %s on %s: rename: %w", b.cfg.Dir, b.cfg.Node, err)
	}
	// With nothing but the record in it there is nothing to be kept.
	entries, err := node.ReadDirContext(ctx, aside)
	if err == nil && (len(entries) == 0 || len(entries) == 1 && entries[0].Name() == RecordName && entries[0].Mode().IsRegular()) {
		if len(entries) == 1 {
			node.Remove(aside + "/" + RecordName)
		}
		if node.RemoveDirectory(aside) == nil {
			aside = ""
		}
	}
	b.log.Info("lock broken", "node", b.cfg.Node, "bundle", b.cfg.Dir)
	return aside, nil
}

func sameHolder(h *holder, seen *Holder) bool {
	if h.Record == nil || seen.Record == nil {
		return h.Record == nil && seen.Record == nil
	}
	return h.Token == seen.Record.Token
}
