package bundle

import (
	"context"
	"errors"
	"fmt"
	"path"

	"bundlefs/internal/lease"
	"bundlefs/internal/remote"
)

// removeScript removes a bundle on the node. Its arguments are the bundle, the hidden name next to
// it, the name of an unfinished record, what its lease names begin with, the lease, and the folders
// above that we made, innermost first; the
// token comes on standard input, so that no list of processes shows it. It answers "removed",
// "gone", or as held who holds it if that is not us. A step or shell of ours may still run, if its
// link was lost or conc was killed: it is ended first, or "left" tells what end_steps found.
//
// The order makes it safe at any interruption and against anybody who breaks
// the lock at the same moment: see the package's documentation.
const removeScript = endSteps + `
dir=$1 doomed=$2 temp=$3 names=$4 lock=$5; shift 5
proof=$doomed-record
IFS= read -r token && [ -n "$token" ] || fail input
if [ -L "$dir" ]; then fail folder; fi
state=gone
if [ -e "$dir" ]; then
	[ -d "$dir" ] || fail folder
	state=lost
	if recorded "$dir/` + RecordName + `"; then
		if [ -e "$doomed" ] || [ -L "$doomed" ]; then fail occupied; fi # mv would move into it
		unname "$names"
		if ! end_steps "$lock" ""; then say left; echo "$left"; finish; fi
		recorded "$dir/` + RecordName + `" || fail changed # that may have taken long
		mv -- "$dir" "$doomed" || fail rename
		if recorded "$doomed/` + RecordName + `"; then
			state=removed
		else
			[ -e "$dir" ] || mv -- "$doomed" "$dir"
			fail changed
		fi
	elif [ -f "$dir/$temp" ] && [ ! -L "$dir/$temp" ] && [ ! -e "$dir/` + RecordName + `" ]; then
		rm -f -- "$dir/$temp" && rmdir -- "$dir" || fail remove
		state=removed
	fi
fi
# What is at the hidden name is ours if the record says so, which is put beside it before anything is
# removed: so what an interruption leaves can still be told to be ours.
if [ -d "$doomed" ] && [ ! -L "$doomed" ]; then
	if recorded "$doomed/` + RecordName + `"; then
		[ ! -d "$proof" ] || fail occupied # mv would move into it
		mv -f -- "$doomed/` + RecordName + `" "$proof" || fail remove
	elif ! recorded "$proof"; then
		rmdir -- "$doomed" 2>/dev/null || fail occupied
	fi
	rm -rf -- "$doomed" 2>/dev/null || { chmod -R u+rwx -- "$doomed"; rm -rf -- "$doomed"; } || fail remove
	state=removed
fi
if recorded "$proof"; then rm -f -- "$proof"; fi
unname "$names"
if [ $state = lost ]; then held "$dir" "$temp"; fi
for above in "$@"; do
	rmdir -- "$above" 2>/dev/null || break # in use by others
done
say $state
finish
`

// removeFailures is what the script's failures mean, for people.
var removeFailures = map[string]string{
	"home":     "cannot enter the home folder",
	"input":    "no token arrived",
	"folder":   "there is something else than a folder at this path",
	"occupied": "something else is at the hidden name next to it, .conc-closing-…: look at it there, and move it away",
	"rename":   "it cannot be renamed",
	"changed":  "it became another's while it was being removed",
	"remove":   "not all of it can be removed",
}

// doomedName is where a bundle is moved before it is removed: next to it, and
// not to be taken for anything else.
func doomedName(dir, token string) string {
	return path.Join(path.Dir(dir), ".conc-closing-"+lease.Hash(token))
}

// RemoveRemote removes the bundle on the node, recursively, when its owner
// record is ours; *LostError when it is another's. It can be called again
// after an interruption. A bundle that is gone already is no error. What an
// interrupted opening left is removed when it is known to be ours; *BlockedError
// when nobody can know whose it is.
func (b *Bundle) RemoveRemote(ctx context.Context) error { return b.removeRemote(ctx, nil) }

// removeRemote is RemoveRemote with a script that was started already, or nil.
func (b *Bundle) removeRemote(ctx context.Context, early *removal) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, ok := b.State()
	if !ok {
		return fmt.Errorf("bundle %s on %s: %w", b.cfg.Dir, b.cfg.Node, ErrNotOpen)
	}
	if st.Phase == PhaseRemoved {
		return nil
	}
	if ours, _, err := b.findMount(&st); err != nil {
		return err
	} else if ours {
		return &MountedError{MountPoint: b.place(&st)}
	}
	client := early.wait(ctx)
	if client == nil {
		early = nil
		if b.cfg.Ahead != nil {
			client = b.cfg.Ahead(ctx)
		}
	}
	if client == nil {
		var done func()
		if client, done, err = b.connect(ctx); err != nil {
			return err
		}
		defer done()
	}
	if err := b.remove(ctx, client, early, &st); err != nil {
		return err
	}
	// The node has nothing of ours any more; without anything left here either, it is closed.
	if len(st.Local) == 0 {
		return b.setState(nil)
	}
	st.Phase = PhaseRemoved
	return b.setState(&st)
}

// remove removes the bundle on the node, and notes before that it is being done. early is a script
// that was started on the client's node already, or nil.
func (b *Bundle) remove(ctx context.Context, client *remote.Client, early *removal, st *State) error {
	before := st.Phase
	if before == PhaseOpen {
		st.Phase = PhaseClosing
		if err := b.setState(st); err != nil {
			return err
		}
	}
	h, err := runRemoval(ctx, client, early, st)
	switch {
	case err != nil:
		return err
	case h == nil:
		b.log.Info("removed", "node", st.Node, "bundle", st.Dir)
	case !h.found && before == PhaseOpen:
		b.log.Warn("the bundle was gone from the node already", "node", st.Node, "bundle", st.Dir)
	case !h.found, before == PhaseClosing: // removed before; somebody else may have locked it since
	case before == PhaseOpen:
		st.Phase = before
		e := &LostError{Node: st.Node, Dir: st.Dir, Spool: st.spool(), Record: h.Record, Reason: h.reason}
		return errors.Join(e, b.setState(st))
	case h.Record == nil:
		// It may be what we made, or another's who is opening it at this moment.
		return h.blocked(st.Node, st.Dir)
	}
	return nil
}

// removeArgs are the arguments of the script.
func (st *State) removeArgs() ([]string, error) {
	args := []string{"./" + st.Dir, "./" + doomedName(st.Dir, st.Record.Token), st.Record.unfinishedName(), "./" + lease.NamePrefix(st.Record.Token), lease.Hash(st.Record.Token)}
	for i := len(st.Parents) - 1; i >= 0; i-- {
		args = append(args, "./"+st.Parents[i])
	}
	// The state is a file: what it says is checked again before it is acted on.
	for _, dir := range append([]string{st.Dir}, st.Parents...) {
		if err := CheckDir(dir); err != nil {
			return nil, fmt.Errorf("%q: %w", dir, err)
		}
	}
	return args, nil
}

// runRemoval runs the script, if it was not started early. It returns nil if it has removed
// something, or else what is there.
func runRemoval(ctx context.Context, client *remote.Client, early *removal, st *State) (*holder, error) {
	failed := func(err error) error { return fmt.Errorf("remove bundle %s on %s: %w", st.Dir, st.Node, err) }
	args, err := st.removeArgs()
	if err != nil {
		return nil, failed(err)
	}
	script := early.take(args)
	if script == nil {
		if script, err = startScript(ctx, client, removeScript, args...); err != nil {
			return nil, failed(err)
		}
	}
	a, err := script.finish(st.Record.Token + "\n")
	switch {
	case err != nil:
		return nil, failed(err)
	case a.words[0] == "removed":
		return nil, nil
	case a.words[0] == "left":
		return nil, &SurvivorsError{Node: st.Node, Dir: st.Dir, Closing: true, Processes: survivors(a.body)}
	case a.words[0] == "failed":
		return nil, withHint(failed(a.failure(removeFailures)), fmt.Sprintf("mend the cause on the node, then 'conc close %s' goes on", st.Node))
	}
	return a.holder(st.Node, st.Dir)
}

// Close is the barrier, unmounts, removes the bundle on the node if it is
// ours, and what was made for it on the workstation. It goes on after any
// interruption. *BusyError, *RefusedError, *LostError: nothing was removed.
func (b *Bundle) Close(ctx context.Context) error {
	release, err := b.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, ok := b.State()
	if !ok {
		return withHint(fmt.Errorf("bundle %s on %s: %w", b.cfg.Dir, b.cfg.Node, ErrNotOpen), "'conc status' lists the open ones")
	}
	early := b.removeAhead(ctx, &st)
	defer early.drop()
	if err := b.Unmount(ctx); err != nil {
		return err
	}
	if err := b.removeRemote(ctx, early); err != nil {
		return err
	}
	return b.forgetLocal(ctx)
}

// Forget unmounts without a barrier and removes what was made for the bundle
// on the workstation. Nothing is asked of the node: its folder stays. What was
// not sent stays in the spool, which is returned; "" when there is none.
func (b *Bundle) Forget(ctx context.Context) (spool string, err error) {
	release, err := b.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	st, ok := b.State()
	linked := false
	if s, err := b.Status(ctx); err == nil && s.MountStatus() != nil {
		linked = s.MountStatus().Connected
	}
	if err := b.unmount(ctx, false); err != nil {
		return "", err
	}
	if linked { // it sends what it can before it ends
		if err := b.awaitEnd(ctx, b.place(&st)); err != nil {
			return "", err
		}
	}
	if ok {
		spool = st.spool()
	}
	return spool, b.forgetLocal(ctx)
}

func (b *Bundle) forgetLocal(ctx context.Context) error {
	if err := b.RemoveLocal(ctx); err != nil {
		return err
	}
	return b.setState(nil)
}
