package bundle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"bundlefs/internal/remote"
)

// None as a Config.MountPoint means: no local folder and no mount.
const None = "none"

// Config says which bundle, where, and how to reach it.
type Config struct {
	Target     remote.Target // how the node is reached; bundlefs is started with the same
	Node       string        // the node's name, for messages and the record
	Dir        string        // the bundle on the node, relative to the home, without ".."
	MountPoint string        // absolute; None or "": not mounted
	Deploy     string        // path of the deploy.ini, for the record
	Message    string        // the operator's words, for the record

	// Connect gives a connection to the node; it stays the caller's. nil: each
	// operation that needs the node dials Target and hangs up afterwards.
	Connect func(context.Context) (*remote.Client, error)

	// Ahead gives a connection before it is needed, if that goes without asking anything; it stays the
	// caller's, and need not be that of Connect: [Bundle.Lent] will do. nil, from it or for it: none.
	Ahead func(context.Context) *remote.Client

	// BundlefsCommand is what starts the mount program; its first word is the
	// file, the rest come before the arguments. nil: this very program, run
	// again under the name "bundlefs".
	BundlefsCommand []string

	SpoolsDir string          // under which bundlefs keeps what is not sent yet; "": $XDG_STATE_HOME, by default ~/.local/state
	Progress  func(Progress)  // is told how far the barrier of an unmount has come; may be nil
	StateDir  string          // "": $XDG_STATE_HOME/conc, by default ~/.local/state/conc
	Log       *slog.Logger    // nil: nothing is logged
	Prompt    remote.Prompter // for connections made here; nil: nothing is asked
}

// Bundle is a handle on one bundle. Its methods may be called from several
// goroutines, but one that changes the bundle should be the only one.
type Bundle struct {
	cfg   Config
	log   *slog.Logger
	store *store

	aged sync.Once // it is told once that another version serves the mount

	mu    sync.Mutex // guards what follows
	state *State     // nil when the bundle is not ours
	held  *hold      // nil when this process does not work on it
	holds int
}

// New gives a handle on the bundle that cfg names, with the state that an
// earlier process left of it, if any. Nothing is asked of the node.
func New(cfg Config) (*Bundle, error) {
	if err := CheckDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("bundle %q of %s: %w", cfg.Dir, cfg.Node, err)
	}
	if cfg.MountPoint == "" {
		cfg.MountPoint = None
	}
	if cfg.MountPoint != None {
		if !filepath.IsAbs(cfg.MountPoint) {
			return nil, fmt.Errorf("mount %q of %s: not an absolute path", cfg.MountPoint, cfg.Node)
		}
		cfg.MountPoint = filepath.Clean(cfg.MountPoint)
	}
	st, err := openStore(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	b := &Bundle{cfg: cfg, log: cfg.Log, store: st}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.state, err = st.load(b.key()); err != nil {
		return nil, err
	}
	return b, nil
}

// Lock is New followed by Lock.
func Lock(ctx context.Context, cfg Config) (*Bundle, error) {
	b, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if err := b.Lock(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Open locks the bundle, makes the local folder and mounts it. When a part
// fails, what was made before it is taken back; the error is then that part's.
// A bundle that an interrupted Open left is continued.
func Open(ctx context.Context, cfg Config) (*Bundle, error) {
	b, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if err := b.Open(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Node is the node's name.
func (b *Bundle) Node() string { return b.cfg.Node }

// Dir is the bundle on the node, relative to the home.
func (b *Bundle) Dir() string { return b.cfg.Dir }

// MountPoint is the local folder, or [None]: of an open bundle that which it
// was opened with, whatever deploy.ini says by now.
func (b *Bundle) MountPoint() string {
	if st, ok := b.State(); ok {
		return st.MountPoint
	}
	return b.cfg.MountPoint
}

// State is a copy of what is known here of the bundle; false when it is not
// open.
func (b *Bundle) State() (State, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil {
		return State{}, false
	}
	return *b.state, true
}

// IsOpen tells whether this workstation holds the bundle, as far as is known here.
func (b *Bundle) IsOpen() bool {
	s, ok := b.State()
	return ok && s.Phase == PhaseOpen
}

// Token is the lock's token, "" when the bundle is not open.
func (b *Bundle) Token() string {
	s, _ := b.State()
	return s.Record.Token
}

// CheckDir tells why dir cannot be a bundle: it must be a relative path below
// the home, without "..", since closing removes it recursively.
func CheckDir(dir string) error {
	switch {
	case dir == "":
		return errors.New("empty")
	case strings.HasPrefix(dir, "/"):
		return errors.New("must be relative to the home folder")
	case strings.HasPrefix(dir, "~"):
		return errors.New("must not begin with ~: it is relative to the home folder anyway")
	case strings.ContainsAny(dir, "\x00\n\r"):
		return errors.New("must not contain control characters")
	case path.Clean(dir) == ".":
		return errors.New("must not be the home folder itself")
	}
	for part := range strings.SplitSeq(dir, "/") {
		if part == ".." {
			return errors.New("must not contain '..' as a part")
		}
	}
	if path.Clean(dir) != dir {
		return fmt.Errorf("must be written as %q", path.Clean(dir))
	}
	return nil
}

// connect gives a connection and what to do with it afterwards.
func (b *Bundle) connect(ctx context.Context) (*remote.Client, func(), error) {
	if b.cfg.Connect != nil {
		c, err := b.cfg.Connect(ctx)
		return c, func() {}, err
	}
	c, err := remote.Dial(ctx, b.cfg.Target, remote.Options{Prompt: b.cfg.Prompt, Log: b.log})
	if err != nil {
		return nil, nil, err
	}
	return c, func() { c.Close() }, nil
}
