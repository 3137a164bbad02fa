package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
)

// Env is what the steps of a run work on.
type Env struct {
	// Node is the node's configuration.
	Node *deploy.Node
	// Bundle is the bundle, open or not.
	Bundle Bundle
	// Connect gives the SSH connection to the node. It is called when the first
	// step needs it, and again only after it was lost; the connection stays the caller's.
	Connect func(context.Context) (*remote.Client, error)
	// Ahead gives the same connection, if that goes without asking anything, before a step needs it;
	// nil for none. It may be called beside Connect. The field may be nil.
	Ahead func(context.Context) *remote.Client
	// Dir is what the globs of copy are relative to: deploy.ini's folder.
	Dir string
	// SudoPassword asks for the password of the node's user for sudo. Run calls it once, before
	// the first step, when a step needs it (see Step.NeedsSudo) and sudo on the node wants one; what
	// it gives is proved, and wiped by Forget. A step that calls it gets the proved one, nil bytes
	// when sudo asks for none there, and does not change or keep them. Its error, or when the
	// field is nil, is BLOCKED: nothing was begun.
	SudoPassword func(context.Context) ([]byte, error)
	// Verbose: pip's output is shown as it comes, not only when pip fails.
	Verbose bool
	// Log gets what is of interest when something goes wrong; nil is silent.
	Log *slog.Logger

	sudo  sudoState // what Authorize found out
	agent *agent    // that it started, for Run; nil: none
}

// Bundle is what the steps need of a bundle; a *bundle.Bundle has it.
type Bundle interface {
	Dir() string        // on the node, relative to the home
	MountPoint() string // absolute, or bundle.None
	Status(context.Context) (*bundle.Status, error)
	Files(context.Context) (bundle.Files, error) // what the mount shows, also without a mount

	Lock(context.Context) error         // remote open
	MakeLocal(context.Context) error    // local open
	Mount(context.Context) error        // local mount
	Unmount(context.Context) error      // local unmount, with a barrier before it
	RemoveRemote(context.Context) error // remote close
	RemoveLocal(context.Context) error  // local close

	Sync(ctx context.Context, progress func(bundle.Progress)) error // the barrier
	Send(ctx context.Context, progress func(bundle.Progress)) error // the same, for who proves the lock on the node
	Drop(context.Context) error                                     // the mount forgets what it cached
	Token() string                                                  // the lock's, by which it is proved; "" when not open
	Lost(context.Context) error                                     // a *bundle.LostError when the lock is not ours any more

	// Manifest gives what SaveManifest kept, nil when nothing was.
	Manifest() ([]byte, error)
	SaveManifest([]byte) error
	ManifestFile() string // where that is, whether there is one or not
}

var _ Bundle = (*bundle.Bundle)(nil)

// mounted tells whether the bundle is mounted. A mount that does not work is an
// error, and so is one that is gone and has left a spool, or still sends: what was
// written into it may not be on the node.
func (e *Env) mounted(ctx context.Context) (bool, error) {
	st, err := e.Bundle.Status(ctx)
	if errors.Is(err, bundle.ErrNotOpen) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch st.Health {
	case bundle.HealthNone:
		if st.Spool == "" && st.Problem == "" {
			return false, nil
		}
	case bundle.HealthOK, bundle.HealthServed:
		return true, nil
	}
	return false, &mountError{e.Node.Name, st}
}

// mountError says that the mount does not work.
type mountError struct {
	node   string
	status *bundle.Status
}

func (e *mountError) Error() string {
	if e.status.Health == bundle.HealthNone && e.status.Spool != "" {
		return fmt.Sprintf("the bundle is not mounted, and what was written into it may not be on the node: it is kept in %s", e.status.Spool)
	}
	s := fmt.Sprintf("the mount at %s is %s", e.status.MountPoint, e.status.Health)
	if e.status.Problem != "" {
		s += ": " + e.status.Problem
	}
	return s
}

// Is makes errors.Is(err, bundle.ErrBlocked) true: nothing was changed.
func (e *mountError) Is(target error) bool { return target == bundle.ErrBlocked }

// Hint says what to do.
func (e *mountError) Hint() string {
	if e.status.Health == bundle.HealthForeign {
		return "unmount what is there"
	}
	return "mount the bundle again: " + remote.Quote("conc", "mount", e.node)
}
