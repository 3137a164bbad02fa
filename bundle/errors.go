package bundle

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"bundlefs/internal/remote"
)

// ErrBlocked is what every error matches (errors.Is) that says: somebody else
// is in the way, and nothing was changed.
var ErrBlocked = errors.New("blocked")

// ErrNotOurs is what every error matches that says: the bundle on the node is
// not, or no longer, the one that this workstation opened.
var ErrNotOurs = errors.New("not our bundle")

// ErrNotOpen is returned when there is no bundle of ours to work on.
var ErrNotOpen = errors.New("no open bundle")

// BlockedError says that the bundle is held: by whom, where, since when.
type BlockedError struct {
	Node, Dir string
	Record    *Record   // nil when the holder is unknown
	Since     time.Time // zero when unknown
	Reason    string    // why the holder is unknown; "" when it is known
	Ours      bool      // held by this workstation itself
}

func (e *BlockedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bundle %s on %s is held by ", e.Dir, e.Node)
	switch {
	case e.Record == nil:
		b.WriteString("somebody unknown")
	case e.Ours:
		b.WriteString("this workstation: " + e.Record.Who())
	default:
		b.WriteString(e.Record.Who())
	}
	if !e.Since.IsZero() {
		b.WriteString(" since " + e.Since.UTC().Format(time.RFC3339))
	}
	if e.Record != nil && e.Record.Message != "" {
		fmt.Fprintf(&b, " (%s)", e.Record.Message)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

// Hint says what the operator can do.
func (e *BlockedError) Hint() string {
	switch {
	case e.Ours:
		return fmt.Sprintf("it is open already: go on with it, or end it with 'conc close %s'", e.Node)
	case e.Record == nil:
		return fmt.Sprintf("if nobody is opening it right now, break the lock with 'conc unlock %s --force'", e.Node)
	}
	return fmt.Sprintf("wait, or talk to the holder; 'conc unlock %s --force' breaks the lock", e.Node)
}

// InUseError says that another process of this user works on the same bundle
// at this moment.
type InUseError struct {
	Node, Dir string
	PID       int       // 0 when unknown
	Command   string    // what it was started as, "" when unknown
	Since     time.Time // when it began
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	if e.Command != "" {
		who += " (" + e.Command + ")"
	}
	return fmt.Sprintf("bundle %s on %s: %s works on it now", e.Dir, e.Node, who)
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *InUseError) Is(target error) bool { return target == ErrBlocked }

// Hint says what the operator can do.
func (e *InUseError) Hint() string { return "wait until it has ended, then try again" }

// LostError says that the lock was ours and is not any more.
type LostError struct {
	Node, Dir string
	Record    *Record // the holder now; nil when unknown or nobody
	Reason    string
	Spool     string // the folder with what was not sent to the node; "" when there is nothing
}

func (e *LostError) Error() string {
	s := fmt.Sprintf("lock lost: bundle %s on %s is not ours any more", e.Dir, e.Node)
	if e.Record != nil {
		s += ": it is held by " + e.Record.Who() + " since " + e.Record.Time.UTC().Format(time.RFC3339)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Spool != "" {
		s += "; what was not sent is kept in " + e.Spool
	}
	return s
}

// Is makes errors.Is(err, ErrNotOurs) true.
func (e *LostError) Is(target error) bool { return target == ErrNotOurs }

// Hint says what the operator can do.
func (e *LostError) Hint() string {
	hint := fmt.Sprintf("nothing was changed on the node; 'conc close %s --forget' removes what is left of it on this workstation only", e.Node)
	if e.Spool != "" {
		hint += ", but not the spool"
	}
	return hint
}

// RefusedError says which changes the node does not take. They are kept, with
// their data, and can be tried again or given up.
type RefusedError struct {
	Node, MountPoint string
	Changes          []Refused
	Before           string // what was not done for it, as "unmounted"; "" when the barrier was all
}

func (e *RefusedError) Error() string {
	var b strings.Builder
	if e.Before != "" {
		b.WriteString("not " + e.Before + ": ")
	}
	fmt.Fprintf(&b, "%s refuses %d change", e.Node, len(e.Changes))
	if len(e.Changes) != 1 {
		b.WriteByte('s')
	}
	b.WriteString(" (kept here): ")
	for i, c := range e.Changes {
		if i == 5 {
			fmt.Fprintf(&b, "; and %d more", len(e.Changes)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.String())
	}
	return b.String()
}

// String is the path, the errno and the cause.
func (r Refused) String() string {
	return fmt.Sprintf("%s: %s: %s", clean(r.Path), clean(r.Errno), clean(r.Error))
}

// Is makes errors.Is(err, ErrBlocked) true when something was not begun for it.
func (e *RefusedError) Is(target error) bool { return target == ErrBlocked && e.Before != "" }

// Hint says what the operator can do.
func (e *RefusedError) Hint() string {
	path := "PATH"
	if len(e.Changes) == 1 {
		path = remote.Quote(clean(e.Changes[0].Path))
	}
	at := remote.Quote(e.MountPoint)
	return fmt.Sprintf("mend the cause on the node, then 'conc sync %s' (or 'bundlefs retry %s') sends them again\n"+
		"or give up what is not needed: 'bundlefs discard %s %s'; 'conc close %s --discard' gives up all of it and closes", e.Node, at, at, path, e.Node)
}

// LinkError says that a barrier failed since the mount has no connection.
type LinkError struct {
	Node    string
	Reason  string   // why there is none, as the mount tells it
	Pending Progress // what is not on the node
	Err     error    // that of the barrier
}

func (e *LinkError) Error() string {
	s := fmt.Sprintf("no connection to %s: %d files, %d bytes are not on the node yet", e.Node, e.Pending.Files, e.Pending.Bytes)
	if e.Reason != "" {
		s += ": " + clean(e.Reason)
	}
	return s
}

func (e *LinkError) Unwrap() error { return e.Err }

// Hint says what the operator can do.
func (e *LinkError) Hint() string {
	return "nothing is lost: it is kept on this workstation and sent when the node can be reached again"
}

// NotFolderError says that what is at the bundle's path is no folder that
// could be a bundle.
type NotFolderError struct {
	Node, Dir, What string // What: "a symbolic link", "a file"
}

func (e *NotFolderError) Error() string {
	return fmt.Sprintf("bundle %s on %s: refused: there is %s at this path", e.Dir, e.Node, e.What)
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *NotFolderError) Is(target error) bool { return target == ErrBlocked }

// Hint says what the operator can do.
func (e *NotFolderError) Hint() string {
	return "look at it on the node, remove or rename it there, or choose another 'bundle' in deploy.ini"
}

// BusyError says which processes keep a mount from being unmounted.
type BusyError struct {
	MountPoint string
	Users      []User
	Inside     bool // this program was started inside the mount
}

// User is one process that uses a mount.
type User struct {
	PID     int
	Command string
	Uses    []string // "cwd", "root", "program", "open NAME", "mapped NAME"
}

func (u User) String() string {
	return fmt.Sprintf("%d %s (%s)", u.PID, u.Command, strings.Join(u.Uses, ", "))
}

func (e *BusyError) Error() string {
	s := "unmount " + e.MountPoint + ": busy"
	if len(e.Users) > 0 {
		var names []string
		for _, u := range e.Users {
			names = append(names, u.String())
		}
		s += ": used by " + strings.Join(names, "; ")
	} else if e.Inside {
		s += ": this command was started in it"
	}
	return s
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *BusyError) Is(target error) bool { return target == ErrBlocked }

// Hint says what the operator can do.
func (e *BusyError) Hint() string {
	if e.Inside {
		return "leave the mount first, with 'cd', then try again"
	}
	if len(e.Users) == 0 {
		return "close what is open in it (a shell, an editor, a process of another user), then try again"
	}
	return "leave the folder in these programs or end them, then try again"
}

// MountedError says that a bundle cannot be removed while it is mounted.
type MountedError struct{ MountPoint string }

func (e *MountedError) Error() string { return "remove: still mounted on " + e.MountPoint }

// Is makes errors.Is(err, ErrBlocked) true.
func (e *MountedError) Is(target error) bool { return target == ErrBlocked }

// Hint says what the operator can do.
func (e *MountedError) Hint() string { return "unmount it first" }

// hinted is an error with a hint for the operator.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint says what the operator can do.
func (e *hinted) Hint() string { return e.hint }

func withHint(err error, hint string) error { return &hinted{err, hint} }
