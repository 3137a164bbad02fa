package bundle

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"bundlefs/internal/lease"
)

// Holder says who holds a bundle on a node.
type Holder struct {
	Found  bool      // there is a bundle
	Ours   bool      // the one that this workstation opened
	Record *Record   // nil when unknown; without a token when the lock is broken, and not free yet
	Since  time.Time // of the record, or the folder's mtime
	Reason string    // why Record is nil, or that the lock is broken

	token string // of the record, "" when there is none
	seen  string // what was seen of a record without a token: see breakScript
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
	seen := &Holder{Found: h.found, Record: h.Record, Since: h.since, Reason: h.reason, token: h.broken, seen: h.seen}
	if h.Record != nil && h.Token != "" {
		seen.token, seen.Ours = h.Token, ok && h.Token == st.Record.Token
	}
	return seen, nil
}

// brokenPrefix begins the name that an owner record has in the bundle from when its lock is broken.
const brokenPrefix = ".conc-broken-"

// breakScript breaks a lock. Its arguments are the bundle, where it is moved, the name that the
// record has in between, what the holder's lease names begin with, and what was seen of a record
// without a token: "none", how many bytes it has, or "any". The holder's token comes on standard
// input, empty when the record tells none. It answers "broken empty" when nothing is left,
// "broken aside" when what was in the bundle is at its new name, "gone" or "changed".
//
// The record is moved first: from then on nothing that the holder tries proves the lock, and the
// folder still keeps everybody else out. Then its ways into the bundle go, and only then does the
// folder make room for the next one. Done again after an interruption, it goes on.
//
// What the holder runs on the node is ended before the folder makes room. "left" is the answer, with
// what end_steps found, when that cannot be done; the last arguments are the lease and what is to be left.
const breakScript = endSteps + `
dir=$1 aside=$2 broken=$3 names=$4 seen=$5 lock=$6 leave=$7
IFS= read -r token || fail input
if [ -L "$dir" ] || { [ -e "$dir" ] && [ ! -d "$dir" ]; }; then fail folder; fi
if [ ! -e "$dir" ]; then say gone; finish; fi
# An opening that was interrupted. What is empty although a holder was shown is the next one's.
if [ -z "$token" ] && rmdir -- "$dir" 2>/dev/null; then say broken empty; finish; fi
record=$dir/` + RecordName + `
if [ -z "$token" ]; then
	case $seen in
	none) if [ -e "$record" ] || [ -L "$record" ]; then say changed; finish; fi ;;
	any) # one that could not be read; by now another may have opened
		if [ -f "$record" ] && [ ! -L "$record" ] && [ -r "$record" ] && [ $(wc -c <"$record") -le 65536 ]; then say changed; finish; fi ;;
	*) if [ ! -f "$record" ] || [ $(wc -c <"$record") -ne "$seen" ]; then say changed; finish; fi ;;
	esac
elif recorded "$record"; then
	mv -f -- "$record" "$dir/$broken" || fail record
	if ! recorded "$dir/$broken"; then # its holder has closed, and another has opened
		mv -- "$dir/$broken" "$record"
		say changed; finish
	fi
elif ! recorded "$dir/$broken"; then say changed; finish
fi
if [ -n "$token" ]; then
	unname "$names"
	if ! end_steps "$lock" "$leave"; then say left; echo "$left"; finish; fi
fi
if [ -e "$aside" ] || [ -L "$aside" ]; then fail occupied; fi # mv would move into it
mv -- "$dir" "$aside" || fail rename
if [ -n "$token" ]; then
	unname "$names"
	mv -- "$aside/$broken" "$aside/` + RecordName + `"
fi
# With nothing but the record in it there is nothing to be kept.
for entry in "$aside"/* "$aside"/.[!.]* "$aside"/..?*; do
	if [ "$entry" = "$aside/` + RecordName + `" ] && [ -f "$entry" ] && [ ! -L "$entry" ]; then continue; fi
	if [ -e "$entry" ] || [ -L "$entry" ]; then say broken aside; finish; fi
done
rm -f -- "$aside/` + RecordName + `"
if rmdir -- "$aside"; then say broken empty; else say broken aside; fi
finish
`

// breakFailures is what the script's failures mean, for people.
var breakFailures = map[string]string{
	"home":     "cannot enter the home folder",
	"input":    "no token arrived",
	"folder":   "there is something else than a folder at this path",
	"record":   "the owner record cannot be renamed",
	"occupied": "something is at the name that it was to get",
	"rename":   "it cannot be renamed",
}

// Break breaks a lock that is somebody else's, who was as seen by Holder. What
// is in the bundle is not removed: the folder is renamed, which also tells its
// holder that the lock is lost, and the new name is returned; "" when there was
// nothing in it. Before that its holder's ways into it are taken away on the node:
// nothing that is still under way by them takes effect afterwards.
// Refused for a bundle of ours, which is to be closed.
//
// Steps and shells of the holder that run on the node are ended, with all that they started.
// *SurvivorsError: something could not be ended, and is not among the process numbers leave; the
// holder can do nothing more then, but the bundle is not free.
func (b *Bundle) Break(ctx context.Context, seen *Holder, leave ...int) (aside string, err error) {
	release, err := b.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	failed := func(err error) error { return fmt.Errorf("unlock %s on %s: %w", b.cfg.Dir, b.cfg.Node, err) }
	if !seen.Found {
		return "", failed(fmt.Errorf("there is no bundle"))
	}
	if seen.Ours {
		return "", withHint(failed(fmt.Errorf("%w: this workstation holds it", ErrBlocked)),
			fmt.Sprintf("end it with 'conc close %s'", b.cfg.Node))
	}
	client, done, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	aside = fmt.Sprintf("%s.unlocked-%s-%s", b.cfg.Dir, time.Now().UTC().Format("20060102T150405Z"), newToken()[:6])
	// What was begun is ended: a lock that is half broken is nobody's.
	a, err := runWhole(ctx, client, breakScript, seen.token+"\n",
		"./"+b.cfg.Dir, "./"+aside, brokenPrefix+lease.Hash(seen.token), "./"+lease.NamePrefix(seen.token), cmp.Or(seen.seen, "none"),
		lease.Hash(seen.token), strings.Trim(fmt.Sprint(leave), "[]"))
	if err != nil {
		return "", failed(err)
	}
	switch strings.Join(a.words, " ") {
	case "broken empty":
		aside = ""
	case "broken aside":
	case "left":
		return "", &SurvivorsError{Node: b.cfg.Node, Dir: b.cfg.Dir, Processes: survivors(a.body)}
	case "gone", "changed":
		return "", withHint(failed(fmt.Errorf("%w: it has changed hands meanwhile", ErrBlocked)), "look again whose it is")
	default:
		return "", withHint(failed(a.failure(breakFailures)),
			fmt.Sprintf("mend the cause on the node, then 'conc unlock %s --force' goes on", b.cfg.Node))
	}
	b.log.Info("lock broken", "node", b.cfg.Node, "bundle", b.cfg.Dir)
	return aside, nil
}
