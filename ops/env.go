package ops

import (
	"context"
	"log/slog"

	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
)

// Env is what the steps of a run work on.
type Env struct {
	// Node is the node's configuration.
	Node *deploy.Node
	// Bundle is the bundle, open or not; see ForBundle.
	Bundle Bundle
	// Connect gives the SSH connection to the node. It is called when the first
	// step needs it, and again only after it was lost; the connection stays the caller's.
	Connect func(context.Context) (*remote.Client, error)
	// Dir is what the globs of copy are relative to: deploy.ini's folder.
	Dir string
	// Log gets what is of interest when something goes wrong; nil is silent.
	Log *slog.Logger
}

// Bundle is what the steps need of a bundle.
type Bundle interface {
	Dir() string        // on the node, relative to the home
	MountPoint() string // absolute, or "none"
	Mounted(context.Context) bool

	Lock(context.Context) error         // remote open
	MakeLocal(context.Context) error    // local open
	Mount(context.Context) error        // local mount
	Unmount(context.Context) error      // local unmount, with a barrier before it
	RemoveRemote(context.Context) error // remote close
	RemoveLocal(context.Context) error  // local close

	// Sync is the barrier. Without a mount it does nothing.
	Sync(ctx context.Context, progress func(Progress)) error
	// Drop makes the mount forget what it cached. Without a mount it does nothing.
	Drop(context.Context) error

	// Manifest is what copy delivered into the bundle so far, by its path in the
	// bundle with slashes; empty when nothing was.
	Manifest() (Manifest, error)
	SaveManifest(Manifest) error
}

// Manifest maps paths in the bundle to what was delivered there.
type Manifest map[string]Entry

// Entry is one delivered file.
type Entry struct {
	SHA256  string `json:"sha256"` // hexadecimal
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime"` // nanoseconds since 1970, as in the mount
}
