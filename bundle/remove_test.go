package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/lease"
	"bundlefs/internal/testnode"
)

func TestCloseRefusesWhatIsAnothers(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	b := mustLock(t, cfg)
	other := config(t, n, "b")
	rec := newRecord(&other)
	rec.User, rec.Message = "ann", b.Token()
	file := filepath.Join(n.Home, "b", RecordName)
	if err := os.WriteFile(file, rec.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	var lost *LostError
	err := b.Close(t.Context())
	if !errors.As(err, &lost) || !errors.Is(err, ErrNotOurs) || lost.Record == nil || lost.Record.User != "ann" || lost.Hint() == "" {
		t.Fatalf("close: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if !b.IsOpen() {
		t.Error("the state is gone")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); !errors.Is(err, ErrNotOurs) {
		t.Errorf("close without a record: %v", err)
	}
	if _, err := b.Forget(t.Context()); err != nil {
		t.Error(err)
	}
	noState(t, cfg)
	if _, err := os.Stat(filepath.Join(n.Home, "b")); err != nil {
		t.Error(err)
	}
}

// Closing is cut off at each place it can be, and done again.
func TestCloseGoesOn(t *testing.T) {
	n := testnode.Start(t)
	home := func(name string) string { return filepath.Join(n.Home, name) }
	for name, cut := range map[string]func(*Bundle, *State) error{
		"before the rename": func(b *Bundle, st *State) error { return nil },
		"after the rename": func(b *Bundle, st *State) error {
			return os.Rename(home("b"), home(doomedName("b", st.Record.Token)))
		},
		"half removed, without the record": func(b *Bundle, st *State) error {
			doomed := home(doomedName("b", st.Record.Token))
			return errors.Join(os.Rename(home("b"), doomed), os.Rename(filepath.Join(doomed, RecordName), doomed+"-record"))
		},
		"all but the record beside it removed": func(b *Bundle, st *State) error {
			doomed := home(doomedName("b", st.Record.Token))
			return errors.Join(os.Rename(home("b/"+RecordName), doomed+"-record"), os.RemoveAll(home("b")))
		},
		"all removed": func(b *Bundle, st *State) error { return os.RemoveAll(home("b")) },
		"removed, and locked by another": func(b *Bundle, st *State) error {
			rec := newRecord(&b.cfg)
			return errors.Join(os.RemoveAll(home("b")), os.Mkdir(home("b"), 0o700), os.WriteFile(home("b/"+RecordName), rec.encode(), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, n, "b")
			b := mustLock(t, cfg)
			if err := os.WriteFile(home("b/file"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			st, _ := b.State()
			st.Phase = PhaseClosing
			if err := errors.Join(b.setState(&st), cut(b, &st)); err != nil {
				t.Fatal(err)
			}
			again := mustNew(t, cfg)
			if err := again.Lock(t.Context()); err == nil || !strings.Contains(err.Error(), "interrupted") {
				t.Errorf("lock: %v", err)
			}
			mustClose(t, again)
			noState(t, cfg)
			if strings.Contains(name, "another") {
				if err := errors.Join(os.Remove(home("b/"+RecordName)), os.Remove(home("b"))); err != nil {
					t.Errorf("another's bundle: %v", err)
				}
			}
			empty(t, n.Home)
		})
	}
}

func TestGoneBundleIsClosed(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "p/b")
	b := mustLock(t, cfg)
	if err := os.RemoveAll(filepath.Join(n.Home, "p")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	noState(t, cfg)
}

func TestParentsOfOthersStay(t *testing.T) {
	n := testnode.Start(t)
	one, two := mustLock(t, config(t, n, "shared/one")), mustLock(t, config(t, n, "shared/two"))
	mustClose(t, one)
	if _, err := os.Stat(filepath.Join(n.Home, "shared/two")); err != nil {
		t.Error(err)
	}
	mustClose(t, two)
	empty(t, n.Home, "shared")
}

// Of two bundles in one folder that was made for the first, the one that is
// closed last removes it, on both sides.
func TestSharedParentsGoWithTheLast(t *testing.T) {
	n := testnode.Start(t)
	top := filepath.Join(t.TempDir(), "top")
	first := config(t, n, "shared/one")
	second := first
	second.Dir = "shared/two"
	first.MountPoint, second.MountPoint = filepath.Join(top, "one"), filepath.Join(top, "two")
	one, two := mustLock(t, first), mustLock(t, second)
	if err := errors.Join(one.MakeLocal(t.Context()), two.MakeLocal(t.Context())); err != nil {
		t.Fatal(err)
	}
	mustClose(t, one)
	mustClose(t, two)
	empty(t, n.Home)
	if _, err := os.Stat(top); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

func TestBreak(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	b := mustLock(t, cfg)
	mine := mustNew(t, cfg)
	h, err := mine.Holder(t.Context())
	if err != nil || !h.Ours || !h.Found {
		t.Fatalf("holder %+v, %v", h, err)
	}
	if _, err := mine.Break(t.Context(), h); err == nil {
		t.Error("our own lock was broken")
	}
	other := mustNew(t, config(t, n, "b"))
	h, err = other.Holder(t.Context())
	if err != nil || h.Ours || h.Record == nil || h.Record.Token != b.Token() {
		t.Fatalf("holder %+v, %v", h, err)
	}
	if _, err := other.Break(t.Context(), &Holder{Found: true}); err == nil || !strings.Contains(err.Error(), "changed hands") {
		t.Errorf("broken without having been seen: %v", err)
	}
	if err := os.WriteFile(filepath.Join(n.Home, "b", "work"), []byte("hers"), 0o644); err != nil {
		t.Fatal(err)
	}
	aside, err := other.Break(t.Context(), h)
	if err != nil || aside == "" {
		t.Fatalf("aside %q, %v", aside, err)
	}
	if data, err := os.ReadFile(filepath.Join(n.Home, aside, "work")); err != nil || string(data) != "hers" {
		t.Errorf("what was in it: %q, %v", data, err)
	}
	if err := other.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); !errors.Is(err, ErrNotOurs) {
		t.Errorf("the loser closes: %v", err)
	}
	// One with nothing but its record in it leaves nothing.
	third := mustNew(t, config(t, n, "b"))
	if h, err = third.Holder(t.Context()); err != nil {
		t.Fatal(err)
	}
	if aside2, err := third.Break(t.Context(), h); err != nil || aside2 != "" {
		t.Errorf("aside %q, %v", aside2, err)
	}
	empty(t, n.Home, aside)
	if h, err = third.Holder(t.Context()); err != nil || h.Found {
		t.Errorf("holder %+v, %v", h, err)
	}
}

// What stands at the hidden name of a closing is not ours: the bundle is not moved into it.
func TestHiddenNameIsTaken(t *testing.T) {
	n := testnode.Start(t)
	home := func(name string) string { return filepath.Join(n.Home, name) }
	for name, take := range map[string]func(at string) error{
		"folder": func(at string) error { return os.Mkdir(at, 0o755) },
		"file":   func(at string) error { return os.WriteFile(at, []byte("hers"), 0o644) },
		"link":   func(at string) error { return os.Symlink("nowhere", at) },
	} {
		t.Run(name, func(t *testing.T) {
			b := mustLock(t, config(t, n, "b"))
			at := home(doomedName("b", b.Token()))
			if err := take(at); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "hidden name") {
				t.Errorf("close: %v", err)
			}
			if _, err := os.Stat(home("b/" + RecordName)); err != nil {
				t.Errorf("the bundle: %v", err)
			}
			if err := os.Rename(at, at+".moved"); err != nil {
				t.Fatal(err)
			}
			mustClose(t, b)
			if err := os.Remove(at + ".moved"); err != nil {
				t.Error(err)
			}
			empty(t, n.Home)
		})
	}
}

// The bundle is another's by now, or gone: what stands at the hidden name of our closing is removed only
// if its record is ours.
func TestHiddenNameIsProved(t *testing.T) {
	n := testnode.Start(t)
	home := func(name string) string { return filepath.Join(n.Home, name) }
	for name, record := range map[string]bool{"without a record": false, "with another's record": true} {
		t.Run(name, func(t *testing.T) {
			b := mustLock(t, config(t, n, "b"))
			st, _ := b.State()
			st.Phase = PhaseClosing
			at := home(doomedName("b", st.Record.Token))
			errs := []error{b.setState(&st), os.RemoveAll(home("b")), os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "hers"), nil, 0o644)}
			if record {
				errs = append(errs, os.WriteFile(filepath.Join(at, RecordName), newRecord(&b.cfg).encode(), 0o600))
			}
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			again := mustNew(t, b.cfg)
			if err := again.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "hidden name") {
				t.Errorf("close: %v", err)
			}
			if _, err := os.Stat(filepath.Join(at, "hers")); err != nil {
				t.Error(err)
			}
			if err := os.Rename(at, home("moved")); err != nil {
				t.Fatal(err)
			}
			mustClose(t, again)
			if err := os.RemoveAll(home("moved")); err != nil {
				t.Error(err)
			}
			empty(t, n.Home)
		})
	}
}

// The holder who was shown has closed, and another has opened: that one's lock is not broken.
func TestBreakProvesTheHolder(t *testing.T) {
	n := testnode.Start(t)
	first := mustLock(t, config(t, n, "b"))
	breaker := mustNew(t, config(t, n, "b"))
	seen, err := breaker.Holder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, first)
	second := mustLock(t, config(t, n, "b"))
	if _, err := breaker.Break(t.Context(), seen); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "changed hands") {
		t.Errorf("break: %v", err)
	}
	h, err := second.Holder(t.Context())
	if err != nil || !h.Ours {
		t.Errorf("the second holder: %+v, %v", h, err)
	}
	mustClose(t, second)
	if _, err := breaker.Break(t.Context(), seen); !errors.Is(err, ErrBlocked) {
		t.Errorf("break of what is gone: %v", err)
	}
	empty(t, n.Home)
}

// Breaking is cut off when the record does not count any more: the lock is nobody's, and the same
// command goes on.
func TestBreakGoesOn(t *testing.T) {
	n := testnode.Start(t)
	home := func(name string) string { return filepath.Join(n.Home, name) }
	b := mustLock(t, config(t, n, "b"))
	name := home(lease.Name(b.Token(), 1))
	if to, err := os.Readlink(name); err != nil || filepath.Base(to) != "b" {
		t.Fatalf("lease name: %q, %v", to, err)
	}
	if err := errors.Join(os.Rename(home("b/"+RecordName), home("b/"+brokenPrefix+lease.Hash(b.Token()))), os.WriteFile(home("b/work"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); !errors.Is(err, ErrNotOurs) {
		t.Errorf("the former holder closes: %v", err)
	}
	breaker := mustNew(t, config(t, n, "b"))
	var blocked *BlockedError
	if err := breaker.Lock(t.Context()); !errors.As(err, &blocked) || blocked.Record == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("lock: %v", err)
	}
	seen, err := breaker.Holder(t.Context())
	if err != nil || seen.Ours || !seen.Found {
		t.Fatalf("holder %+v, %v", seen, err)
	}
	aside, err := breaker.Break(t.Context(), seen)
	if err != nil || aside == "" {
		t.Fatalf("aside %q, %v", aside, err)
	}
	for _, there := range []string{aside + "/work", aside + "/" + RecordName} {
		if _, err := os.Stat(home(there)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(name); !os.IsNotExist(err) {
		t.Errorf("the lease name is left: %v", err)
	}
	empty(t, n.Home, aside)
}

func TestStateIsChecked(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	b := mustLock(t, cfg)
	file := filepath.Join(b.store.dir, b.key()+".json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", strings.Replace(string(data), `"dir": "b"`, `"dir": "../b"`, 1), strings.ReplaceAll(string(data), b.Token(), "short")} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("state %.30q: %v", text, err)
		}
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.SaveManifest([]byte("{}")); err != nil {
		t.Error(err)
	}
	mustClose(t, mustNew(t, cfg))
	noState(t, cfg)
}

// The parts of closing as steps of their own, in both orders.
func TestPartsOfClosing(t *testing.T) {
	n := testnode.Start(t)
	for _, localFirst := range []bool{true, false} {
		cfg := config(t, n, "b")
		cfg.MountPoint = filepath.Join(t.TempDir(), "m")
		b := mustLock(t, cfg)
		if err := b.MakeLocal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if localFirst {
			if err := errors.Join(b.RemoveLocal(t.Context()), b.RemoveRemote(t.Context())); err != nil {
				t.Error(err)
			}
		} else {
			if err := b.RemoveRemote(t.Context()); err != nil {
				t.Error(err)
			}
			// A new one can be locked before the rest is gone.
			if err := errors.Join(b.Lock(t.Context()), b.RemoveRemote(t.Context()), b.RemoveLocal(t.Context())); err != nil {
				t.Error(err)
			}
		}
		empty(t, n.Home)
		noState(t, cfg)
		if _, err := os.Stat(cfg.MountPoint); !os.IsNotExist(err) {
			t.Errorf("left: %v", err)
		}
	}
}
