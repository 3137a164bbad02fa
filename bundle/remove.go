package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"bundlefs/internal/remote"
)

// removeScript removes a bundle on the node, in one round trip. Its arguments
// are the bundle and the hidden name next to it; the token comes on standard
// input, so that no list of processes shows it. Its exit codes are below.
//
// The order makes it safe at any interruption and against anybody who breaks
// the lock at the same moment: see the package's documentation.
const removeScript = `
IFS= read -r token || exit 70
ours() {
	[ -f "$1/` + RecordName + `" ] && [ ! -L "$1/` + RecordName + `" ] || return 1
	while IFS= read -r line; do
		case $line in *'"token": "'"$token"'"'*) return 0 ;; esac
	done <"$1/` + RecordName + `"
	return 1
}
if [ -z "$HOME" ] || ! cd -- "$HOME"; then exit 71; fi
if [ -L "$1" ]; then exit 72; fi
state=gone
if [ -e "$1" ]; then
	[ -d "$1" ] || exit 72
	state=lost
	if ours "$1"; then
		mv -- "$1" "$2" || exit 73
		if ours "$2"; then
			state=removed
		else
			[ -e "$1" ] || mv -- "$2" "$1"
			exit 74
		fi
	fi
fi
if [ -d "$2" ] && [ ! -L "$2" ]; then
	rm -rf -- "$2" 2>/dev/null || { chmod -R u+rwx -- "$2"; rm -rf -- "$2"; } || exit 75
	state=removed
fi
echo "$state"
`

// What the script's exit codes mean, for people.
var removeFailures = map[int]string{
	70: "no token arrived",
	71: "cannot enter the home folder",
	72: "there is something else than a folder at this path",
	73: "it cannot be renamed",
	74: "it became another's while it was being removed",
	75: "not all of it can be removed",
}

// doomedName is where a bundle is moved before it is removed: next to it, and
// not to be taken for anything else.
func doomedName(dir, token string) string {
	sum := sha256.Sum256([]byte(token))
	return path.Join(path.Dir(dir), ".conc-closing-"+hex.EncodeToString(sum[:16]))
}

// RemoveRemote removes the bundle on the node, recursively, when its owner
// record is ours; *LostError when it is another's. It can be called again
// after an interruption. A bundle that is gone already is no error.
func (b *Bundle) RemoveRemote(ctx context.Context) error {
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
	// The state is a file: what it says is checked again before it is acted on.
	if err := CheckDir(st.Dir); err != nil {
		return fmt.Errorf("bundle %q: %w", st.Dir, err)
	}
	client, done, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	if st.Phase == PhaseLocking || st.Phase == PhaseMade {
		if err := b.removeInterrupted(ctx, client, &st); err != nil {
			return err
		}
		return b.removed(&st)
	}
	before := st.Phase
	if before != PhaseClosing {
		st.Phase = PhaseClosing
		if err := b.setState(&st); err != nil {
			return err
		}
	}
	result, err := runRemoval(ctx, client, &st)
	if err != nil {
		return err
	}
	switch result {
	case "removed":
		b.log.Info("removed", "node", st.Node, "bundle", st.Dir)
	case "gone":
		if before != PhaseClosing {
			b.log.Warn("the bundle was gone from the node already", "node", st.Node, "bundle", st.Dir)
		}
	case "lost":
		if before == PhaseClosing {
			return b.removed(&st) // it was removed before; somebody else has locked it since
		}
		st.Phase = before
		if err := b.setState(&st); err != nil {
			return err
		}
		return b.lost(ctx, client, &st)
	default:
		return fmt.Errorf("remove bundle %s on %s: unexpected answer %q", st.Dir, st.Node, clean(result))
	}
	if err := removeParents(ctx, client, &st); err != nil {
		return err
	}
	return b.removed(&st)
}

// removed notes that the node has nothing of ours any more; without anything
// left here either, the bundle is closed.
func (b *Bundle) removed(st *State) error {
	if len(st.Local) == 0 {
		return b.setState(nil)
	}
	st.Phase = PhaseRemoved
	return b.setState(st)
}

func runRemoval(ctx context.Context, client *remote.Client, st *State) (string, error) {
	var out, errs tail
	cmd := remote.Quote("sh", "-c", removeScript, "sh", "./"+st.Dir, "./"+doomedName(st.Dir, st.Record.Token))
	p, err := client.Start(ctx, cmd, strings.NewReader(st.Record.Token+"\n"), &out, &errs)
	if err != nil {
		return "", fmt.Errorf("remove bundle %s on %s: %w", st.Dir, st.Node, err)
	}
	end, err := p.Wait()
	if err != nil {
		return "", fmt.Errorf("remove bundle %s on %s: %w", st.Dir, st.Node, err)
	}
	if end.Code != 0 {
		why := removeFailures[end.Code]
		if why == "" {
			why = fmt.Sprintf("the shell on the node ended with %d %s", end.Code, end.Signal)
		}
		if s := clean(errs.String()); s != "" {
			why += ": " + s
		}
		err := fmt.Errorf("remove bundle %s on %s: %s", st.Dir, st.Node, why)
		return "", withHint(err, fmt.Sprintf("mend the cause on the node, then 'conc close %s' goes on", st.Node))
	}
	return strings.TrimSpace(out.String()), nil
}

// lost describes who holds the bundle now.
func (b *Bundle) lost(ctx context.Context, client *remote.Client, st *State) error {
	e := &LostError{Node: st.Node, Dir: st.Dir, Spool: st.spool()}
	node, err := client.SFTP(ctx)
	if err != nil {
		return errors.Join(e, err)
	}
	defer node.Close()
	held, err := readRecord(node, st.Node, st.Dir)
	if err != nil {
		return errors.Join(e, err)
	}
	e.Record, e.Reason = held.Record, held.reason
	return e
}

// removeInterrupted takes back what an interrupted opening made: the folder
// only while it is empty, or with a record of ours.
func (b *Bundle) removeInterrupted(ctx context.Context, client *remote.Client, st *State) error {
	node, err := client.SFTP(ctx)
	if err != nil {
		return fmt.Errorf("take back %s: %w", st.Dir, err)
	}
	defer node.Close()
	held, err := readRecord(node, st.Node, st.Dir)
	if err != nil {
		return err
	}
	if held.Record != nil && held.Token == st.Record.Token {
		if _, err := runRemoval(ctx, client, st); err != nil {
			return err
		}
	} else if held.found && held.absent && st.Phase == PhaseMade {
		if err := node.RemoveDirectory(st.Dir); err != nil {
			return fmt.Errorf("take back %s on %s: %w", st.Dir, st.Node, err)
		}
	}
	return removeParents(ctx, client, st)
}

// removeParents removes the folders above the bundle that we made and that are
// empty.
func removeParents(ctx context.Context, client *remote.Client, st *State) error {
	if len(st.Parents) == 0 {
		return nil
	}
	node, err := client.SFTP(ctx)
	if err != nil {
		return fmt.Errorf("remove parents of %s: %w", st.Dir, err)
	}
	defer node.Close()
	for i := len(st.Parents) - 1; i >= 0; i-- {
		if CheckDir(st.Parents[i]) != nil || node.RemoveDirectory(st.Parents[i]) != nil {
			break // in use by others
		}
	}
	return nil
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
	if _, ok := b.State(); !ok {
		return withHint(fmt.Errorf("bundle %s on %s: %w", b.cfg.Dir, b.cfg.Node, ErrNotOpen), "'conc status' lists the open ones")
	}
	if err := b.Unmount(ctx); err != nil {
		return err
	}
	if err := b.RemoveRemote(ctx); err != nil {
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
		if err := awaitEnd(ctx, b.place(&st)); err != nil {
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

// tail keeps the first 4 KiB that are written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	if room := 4096 - t.Len(); room > 0 {
		t.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

var _ io.Writer = (*tail)(nil)
