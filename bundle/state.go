package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"bundlefs/internal/lease"
	"bundlefs/internal/remote"
)

// Phase is how far opening or closing has come.
type Phase string

// The phases, in their order.
const (
	PhaseLocking Phase = "locking" // the node is asked to make it
	PhaseOpen    Phase = "open"    // it is made, with its record
	PhaseClosing Phase = "closing" // being removed on the node
	PhaseRemoved Phase = "removed" // gone from the node, not yet from the workstation
)

// State is what the workstation knows of a bundle that it opened.
type State struct {
	Phase  Phase  `json:"phase"`
	Node   string `json:"node"`
	Target string `json:"target"` // user@host:port, for people
	// Reach is how the node is reached, whatever deploy.ini says by now.
	Reach      remote.Target `json:"reach"`
	Dir        string        `json:"dir"`
	MountPoint string        `json:"mount"`           // absolute, or None
	Spools     string        `json:"cache,omitempty"` // the folder under which the mount keeps its spool
	Deploy     string        `json:"deploy"`
	Record     Record        `json:"record"`
	Parents    []string      `json:"parents,omitempty"` // folders above Dir that we made on the node, outermost first
	Local      []string      `json:"local,omitempty"`   // local folders that we made, outermost first
}

// interrupted tells that opening was begun, and not that it ended.
func (st *State) interrupted() bool {
	return st.Phase != PhaseOpen && st.Phase != PhaseClosing && st.Phase != PhaseRemoved
}

// place is what the mount program answers to: the mount point, or, where nothing is mounted, a
// name next to the state.
func (b *Bundle) place(st *State) string {
	if st.MountPoint != None {
		return st.MountPoint
	}
	return filepath.Join(b.store.dir, b.key()+".served")
}

// source is what the mount says is mounted: it tells the bundles apart.
func (st *State) source() string { return st.Target + ":" + st.Dir }

// store is the folder with the states: bundles/KEY.json, and for each KEY.lock
// and, when something was delivered, KEY.manifest.
type store struct{ dir string }

// DefaultStateDir is $XDG_STATE_HOME/conc, or ~/.local/state/conc.
func DefaultStateDir() (string, error) {
	dir, err := lease.StateHome()
	if err != nil {
		return "", fmt.Errorf("state folder: %w", err)
	}
	return filepath.Join(dir, "conc"), nil
}

func openStore(dir string) (*store, error) {
	if dir == "" {
		d, err := DefaultStateDir()
		if err != nil {
			return nil, err
		}
		dir = d
	}
	return &store{filepath.Join(dir, "bundles")}, nil
}

// key names the state: one for each user on a node, and folder.
func (b *Bundle) key() string {
	sum := sha256.Sum256([]byte(b.cfg.Target.String() + "\x00" + b.cfg.Dir))
	return hex.EncodeToString(sum[:16])
}

func (s *store) load(key string) (*State, error) {
	file := filepath.Join(s.dir, key+".json")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	var st State
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, withHint(fmt.Errorf("state %s: %w", file, err), "move the file away; the bundle then has to be unlocked with 'conc unlock --force'")
	}
	if err := CheckDir(st.Dir); err != nil || !tokenForm.MatchString(st.Record.Token) {
		return nil, withHint(fmt.Errorf("state %s: not a valid state", file), "move the file away; the bundle then has to be unlocked with 'conc unlock --force'")
	}
	return &st, nil
}

// save puts the state on the disk: it is there, whole, when save returns,
// whatever happens to the machine afterwards.
func (s *store) save(key string, st *State) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("save state: %w", err)
		}
	}()
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return s.write(key, ".json", append(data, '\n'))
}

// write replaces a file of the bundle's as a whole.
func (s *store) write(key, suffix string, data []byte) error {
	if err := s.make(); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, "."+key+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(s.dir, key+suffix)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// setState notes st here and on the disk; nil: the bundle is not ours.
func (b *Bundle) setState(st *State) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st == nil {
		b.state = nil
		return b.store.remove(b.key())
	}
	c := *st
	if err := b.store.save(b.key(), &c); err != nil {
		return err
	}
	b.state = &c
	return nil
}

func (s *store) make() error { return os.MkdirAll(s.dir, 0o700) }

// inherited gives those of the folders above one that we made for another
// bundle that is open, outermost first: whichever is closed last removes them.
func (s *store) inherited(folder string, made func(*State) []string) []string {
	states, _ := s.list() // one that cannot be read costs an empty folder, not more
	var dirs []string
	for dir := filepath.Dir(folder); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		for i := range states {
			if slices.Contains(made(&states[i]), dir) {
				dirs = append([]string{dir}, dirs...)
				break
			}
		}
	}
	return dirs
}

// remove removes all files of the bundle's but the lock, the state last.
func (s *store) remove(key string) error {
	for _, suffix := range []string{".manifest", ".json"} {
		err := os.Remove(filepath.Join(s.dir, key+suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	return nil
}

// Manifest gives what SaveManifest kept; nil when nothing was.
func (b *Bundle) Manifest() ([]byte, error) {
	data, err := os.ReadFile(b.ManifestFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// ManifestFile is where SaveManifest keeps what it is given.
func (b *Bundle) ManifestFile() string { return filepath.Join(b.store.dir, b.key()+".manifest") }

// SaveManifest keeps the list of what was delivered with the bundle's state;
// its form is the caller's. It goes when the bundle is closed.
func (b *Bundle) SaveManifest(data []byte) error {
	if !b.IsOpen() {
		_, err := b.open()
		return err
	}
	if err := b.store.write(b.key(), ".manifest", data); err != nil {
		return fmt.Errorf("save manifest: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List gives the states of all bundles that this user opened from this
// workstation, sorted by node and folder. stateDir as in [Config]. States that
// cannot be read are left out, and named in the error.
func List(stateDir string) ([]State, error) {
	s, err := openStore(stateDir)
	if err != nil {
		return nil, err
	}
	return s.list()
}

func (s *store) list() ([]State, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("states: %w", err)
	}
	var list []State
	var errs []error
	for _, e := range entries {
		key, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(key, ".") {
			continue
		}
		st, err := s.load(key)
		if err != nil {
			errs = append(errs, err)
		} else if st != nil { // nil: closed in this moment
			list = append(list, *st)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].Node != list[j].Node {
			return list[i].Node < list[j].Node
		}
		return list[i].Dir < list[j].Dir
	})
	return list, errors.Join(errs...)
}
