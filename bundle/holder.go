package bundle

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"bundlefs/internal/remote"
)

// holder is what was found at a bundle's path on the node.
type holder struct {
	*Record              // nil: unknown
	found      bool      // there is a folder
	unfinished bool      // it has no record, but the beginning of ours
	since      time.Time // of the record, or the folder's mtime
	reason     string    // why the record is nil, or that the lock is broken
	seen       string    // what was seen of a record without a token: see breakScript
	broken     string    // the token that was in the record, when the lock is broken and not free yet
}

func (h *holder) blocked(node, dir string) error {
	return &BlockedError{Node: node, Dir: dir, Record: h.Record, Since: h.since, Reason: h.reason}
}

// lookScript asks who holds a bundle. Its arguments are the bundle, and the name under which a
// record of ours may be that was not finished.
const lookScript = `
held "$1" "$2"
`

// look asks who holds the bundle. st is the state of one of ours, or nil.
func (b *Bundle) look(ctx context.Context, client *remote.Client, st *State) (*holder, error) {
	dir, unfinished := b.cfg.Dir, "."
	if st != nil {
		dir, unfinished = st.Dir, st.Record.unfinishedName()
	}
	a, err := runScript(ctx, client, lookScript, "", "./"+dir, unfinished)
	if err != nil {
		return nil, fmt.Errorf("look at bundle %s on %s: %w", dir, b.cfg.Node, err)
	}
	return a.holder(b.cfg.Node, dir)
}

// holder reads the answer of held. That there is nothing, or a record that cannot be read, is no
// error; something else than a folder is *NotFolderError.
func (a *answer) holder(node, dir string) (*holder, error) {
	switch a.words[0] {
	case "gone":
		return &holder{}, nil
	case "link":
		return nil, &NotFolderError{node, dir, "a symbolic link"}
	case "other":
		return nil, &NotFolderError{node, dir, "something that is not a folder"}
	case "held":
	default:
		return nil, fmt.Errorf("look at bundle %s on %s: %w", dir, node, a.failure(lookFailures))
	}
	h := &holder{found: true}
	if since := a.number(1); since > 0 {
		h.since = time.Unix(int64(since), 0)
	}
	switch kind := a.words[len(a.words)-1]; kind {
	case "file", "broken":
		rec, err := parseRecord(a.body)
		if err != nil {
			h.reason, h.seen = err.Error(), strconv.Itoa(len(a.body))
			if len(a.body) > maxRecord {
				h.seen = "any"
			}
			break
		}
		if kind == "broken" { // it proves nothing any more
			h.broken, rec.Token = rec.Token, ""
			h.reason = "its lock was broken, and the folder is not free yet"
		}
		h.Record = rec
		if !rec.Time.IsZero() {
			h.since = rec.Time
		}
	case "none", "temp":
		h.reason, h.unfinished = "it has no owner record", kind == "temp"
	case "closed":
		h.reason, h.seen = "its owner record is another user's", "any"
	default:
		h.reason, h.seen = "its owner record is not a file", "any"
	}
	return h, nil
}

// number is one of the words of an answer, 0 if it is none or negative.
func (a *answer) number(i int) int {
	if i >= len(a.words) {
		return 0
	}
	n, _ := strconv.Atoi(a.words[i])
	return max(n, 0)
}
