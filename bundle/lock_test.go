package bundle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestLockAndClose(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "deploys/hello/bundle-1.0")
	cfg.Message = "release\x1b[31m 1.0"
	b := mustLock(t, cfg)
	file := filepath.Join(n.Home, cfg.Dir, RecordName)
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("record: %v, %v", info, err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := parseRecord(data)
	if err != nil || rec.Token != b.Token() || len(rec.Token) != 64 || rec.Node != "n1" || rec.Message != "release [31m 1.0" || rec.PID != os.Getpid() {
		t.Errorf("record %+v, %v", rec, err)
	}
	if info, err := os.Stat(filepath.Join(cfg.StateDir, "bundles")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state folder %v, %v", info.Mode(), err)
	}
	if list, err := List(cfg.StateDir); err != nil || len(list) != 1 || list[0].Record.Token != rec.Token {
		t.Errorf("list %+v, %v", list, err)
	}
	// Content that resists: folders nobody may write to, links out of the bundle.
	outside := filepath.Join(n.Home, "keep")
	dir := filepath.Join(n.Home, cfg.Dir, "-rf", "deep")
	for _, err := range []error{
		os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "file"), nil, 0o644),
		os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "x"), nil, 0), os.Symlink(outside, filepath.Join(dir, "link")), os.Chmod(dir, 0o500),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, b)
	empty(t, n.Home, "keep")
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Error(err)
	}
	noState(t, cfg)
	if err := b.Close(t.Context()); !errors.Is(err, ErrNotOpen) {
		t.Errorf("closing again: %v", err)
	}
}

func TestOneOfTwentyWins(t *testing.T) {
	n := testnode.Start(t, testnode.WithConfig("MaxStartups 100"))
	const openers = 20
	errs := make([]error, openers)
	cfgs := make([]Config, openers)
	var wg sync.WaitGroup
	for i := range openers {
		cfgs[i] = config(t, n, "a/b")
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, errs[i] = Lock(t.Context(), cfgs[i])
		}()
	}
	wg.Wait()
	winners := 0
	for i, err := range errs {
		var blocked *BlockedError
		switch {
		case err == nil:
			winners++
			defer mustClose(t, mustNew(t, cfgs[i]))
		case !errors.As(err, &blocked) || !errors.Is(err, ErrBlocked):
			t.Errorf("opener %d: %v", i, err)
		default:
			if blocked.Since.IsZero() || blocked.Dir != "a/b" {
				t.Errorf("opener %d: %v", i, err)
			}
			noState(t, cfgs[i])
		}
	}
	if winners != 1 {
		t.Errorf("%d of %d won", winners, openers)
	}
}

func TestOneWorkstationTwice(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	const openers = 6
	errs := make(chan error, openers)
	for range openers {
		go func() { _, err := Open(t.Context(), cfg); errs <- err }()
	}
	winners := 0
	for range openers {
		var blocked *BlockedError
		err := <-errs
		if err == nil {
			winners++
		} else if !errors.As(err, &blocked) || !blocked.Ours || blocked.Record == nil || blocked.Hint() == "" {
			t.Errorf("got %v", err)
		}
	}
	if winners != 1 {
		t.Errorf("%d won", winners)
	}
	mustClose(t, mustNew(t, cfg))
	noState(t, cfg)
}

func TestForeignFolderIsBlocked(t *testing.T) {
	n := testnode.Start(t)
	home := func(name string) string { return filepath.Join(n.Home, name) }
	record := func(dir, text string) {
		if err := errors.Join(os.Mkdir(home(dir), 0o755), os.WriteFile(home(dir+"/"+RecordName), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(home("without"), 0o755); err != nil {
		t.Fatal(err)
	}
	mtime := time.Unix(1700000000, 0)
	if err := os.Chtimes(home("without"), mtime, mtime); err != nil {
		t.Fatal(err)
	}
	record("nothing", "")
	record("garbage", "\x1b]0;owned\a{{{")
	record("large", `{"token":"`+strings.Repeat("a", 64)+`","message":"`+strings.Repeat("x", 1<<20)+`"}`)
	record("notoken", `{"user":"me"}`)
	record("hostile", `{"token":"`+strings.Repeat("a", 64)+`","user":"\u001b[2Jevil\u202e","host":"h\nconc: fine","pid":-4,"time":"2026-01-02T03:04:05Z","message":"`+strings.Repeat("m", 3000)+`"}`)
	record("other", `{"token":"`+strings.Repeat("b", 64)+`","user":"ann","host":"ws7","pid":12,"time":"2026-01-02T03:04:05Z","message":"lunch"}`)
	if err := errors.Join(os.Mkdir(home("fifo"), 0o755), syscall.Mkfifo(home("fifo/"+RecordName), 0o600)); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"without": "somebody unknown since 2023-11-14T22:13:20Z: it has no owner record",
		"nothing": "record is empty", "garbage": "not readable as JSON", "large": "larger than", "notoken": "no token", "fifo": "not a file",
		"hostile": "held by [2Jevil@h conc: fine since 2026-01-02T03:04:05Z (mmm",
		"other":   "bundle other on n1 is held by ann@ws7 pid 12 since 2026-01-02T03:04:05Z (lunch)",
	} {
		cfg := config(t, n, dir)
		_, err := Lock(t.Context(), cfg)
		var blocked *BlockedError
		if !errors.As(err, &blocked) || !strings.Contains(err.Error(), want) || len(err.Error()) > 1000 {
			t.Errorf("%s: got %v, want %q in it", dir, err, want)
			continue
		}
		for _, c := range err.Error() {
			if c < ' ' || c == 0x202e {
				t.Errorf("%s: control character %q in %q", dir, c, err)
			}
		}
		noState(t, cfg)
		if _, err := os.Stat(home(dir)); err != nil {
			t.Error(err)
		}
	}
}

func TestNotAFolderIsRefused(t *testing.T) {
	n := testnode.Start(t)
	target := filepath.Join(n.Home, "precious")
	if err := errors.Join(os.Mkdir(target, 0o755), os.Symlink(target, filepath.Join(n.Home, "link")), os.WriteFile(filepath.Join(n.Home, "file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"link", "file"} {
		cfg := config(t, n, dir)
		_, err := Lock(t.Context(), cfg)
		var not *NotFolderError
		if !errors.As(err, &not) || !errors.Is(err, ErrBlocked) {
			t.Errorf("%s: %v", dir, err)
		}
		noState(t, cfg)
	}
	_, err := Lock(t.Context(), config(t, n, "file/below"))
	if err == nil || errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "file") {
		t.Errorf("below a file: %v", err)
	}
}

func TestLinkPutInPlaceOfTheBundle(t *testing.T) {
	n := testnode.Start(t)
	cfg := config(t, n, "b")
	b := mustLock(t, cfg)
	precious := filepath.Join(n.Home, "precious")
	if err := errors.Join(os.Rename(filepath.Join(n.Home, "b"), precious), os.Symlink(precious, filepath.Join(n.Home, "b"))); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "something else than a folder") {
		t.Errorf("close: %v", err)
	}
	if _, err := os.Stat(filepath.Join(precious, RecordName)); err != nil {
		t.Error(err)
	}
}

func TestDirIsChecked(t *testing.T) {
	for dir, ok := range map[string]bool{
		"a": true, "a/b": true, ".hidden": true, "a b": true, "-rf": true,
		"": false, ".": false, "/a": false, "~": false, "~/a": false, "..": false, "a/../b": false, "a/..": false, "a//b": false, "a/": false, "./a": false, "a\nb": false, "a\x00": false,
	} {
		if err := CheckDir(dir); (err == nil) != ok {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

// An opening that was killed while it made the bundle is continued by the next one, and taken
// back by close, if what is there is known to be ours.
func TestInterruptedOpening(t *testing.T) {
	n := testnode.Start(t)
	interrupted := func(dir string, made func(folder string, st *State) error) Config {
		cfg := config(t, n, dir)
		b := mustNew(t, cfg)
		st, err := b.newState()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(b.store.save(b.key(), st), made(filepath.Join(n.Home, dir), st)); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	folder := func(folder string, st *State) error { return os.MkdirAll(folder, 0o700) }
	with := func(name func(*State) string, text func(*State) string) func(string, *State) error {
		return func(folder string, st *State) error {
			return errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, name(st)), []byte(text(st)), 0o600))
		}
	}
	recordName := func(*State) string { return RecordName }
	unfinished := func(st *State) string { return st.Record.unfinishedName() }
	whole := func(st *State) string {
		return strings.Replace(string(st.Record.encode()), `"above": 0`, `"above": 1`, 1)
	}
	half := func(st *State) string { return whole(st)[:20] }
	nothing := func(*State) string { return "" }
	for name, made := range map[string]func(string, *State) error{
		"with its record": with(recordName, whole), "with half a record": with(unfinished, half), "with a record of nothing": with(unfinished, nothing),
	} {
		t.Run("opened again "+name, func(t *testing.T) {
			cfg := interrupted("above/again", made)
			token := mustNew(t, cfg).Token()
			b := mustLock(t, cfg)
			if b.Token() != token || !b.IsOpen() {
				t.Errorf("phase %v, another token: %v", b.state.Phase, b.Token() != token)
			}
			data, err := os.ReadFile(filepath.Join(n.Home, cfg.Dir, RecordName))
			if rec, perr := parseRecord(data); errors.Join(err, perr) != nil || rec.Token != token {
				t.Errorf("record %q, %v", data, errors.Join(err, perr))
			}
			mustClose(t, b)
			noState(t, cfg)
			// A folder above is removed when it is known that we made it.
			os.Remove(filepath.Join(n.Home, "above"))
			empty(t, n.Home)
		})
		t.Run("closed "+name, func(t *testing.T) {
			cfg := interrupted("closed", made)
			mustClose(t, mustNew(t, cfg))
			empty(t, n.Home)
			noState(t, cfg)
		})
	}
	t.Run("the record tells what else was made", func(t *testing.T) {
		cfg := interrupted("above/again", with(recordName, whole))
		mustClose(t, mustLock(t, cfg))
		empty(t, n.Home)
	})
	t.Run("claimed by another", func(t *testing.T) {
		cfg := interrupted("claimed", func(folder string, st *State) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, RecordName), newRecord(&Config{}).encode(), 0o600))
		})
		if err := mustNew(t, cfg).Lock(t.Context()); !errors.Is(err, ErrBlocked) {
			t.Errorf("lock: %v", err)
		}
		mustClose(t, mustNew(t, cfg)) // forgets it, and leaves what is another's
		noState(t, cfg)
		if _, err := os.Stat(filepath.Join(n.Home, "claimed", RecordName)); err != nil {
			t.Error(err)
		}
		os.RemoveAll(filepath.Join(n.Home, "claimed"))
	})
	for name, made := range map[string]func(string, *State) error{"an empty folder": folder, "an empty record": with(recordName, nothing)} {
		t.Run("not known to be ours: "+name, func(t *testing.T) {
			cfg := interrupted("unknown", made)
			b := mustNew(t, cfg)
			for what, err := range map[string]error{"lock": b.Lock(t.Context()), "close": b.Close(t.Context())} {
				var blocked *BlockedError
				if !errors.As(err, &blocked) || blocked.Record != nil || !strings.Contains(blocked.Hint(), "conc unlock n1 --force") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, err := os.Stat(filepath.Join(n.Home, "unknown")); err != nil || b.Token() == "" {
				t.Errorf("forgotten, and still there: %v", err)
			}
			h, err := b.Holder(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Break(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			mustClose(t, b)
			noState(t, cfg)
			left, _ := filepath.Glob(filepath.Join(n.Home, "unknown.unlocked-*"))
			for _, l := range left {
				os.RemoveAll(l)
			}
			empty(t, n.Home)
		})
	}
	t.Run("never made", func(t *testing.T) {
		cfg := interrupted("never", func(string, *State) error { return nil })
		old := mustNew(t, cfg).Token()
		b := mustLock(t, cfg)
		if b.Token() == old {
			t.Error("an old token was used again")
		}
		mustClose(t, b)
		empty(t, n.Home)
	})
}

// The link breaks at each place where it can while the lock is made: whatever that has left, the
// next open or close deals with it.
func TestLinkBreaksWhileLocking(t *testing.T) {
	n := testnode.Start(t)
	link := testnode.NewLink(t, n.Addr)
	for at := int64(1); ; at += 900 {
		cfg := config(t, n, "x/b")
		cfg.Target = n.TargetVia(link)
		client, err := remote.Dial(t.Context(), cfg.Target, remote.Options{})
		if err != nil {
			t.Fatal(err)
		}
		lost := cfg
		lost.Connect = func(context.Context) (*remote.Client, error) { return client, nil }
		broke := make(chan struct{})
		link.AfterUp(at, func() { link.Reset(); close(broke) })
		b := mustNew(t, lost)
		err = b.Lock(t.Context())
		client.Close()
		if err == nil {
			link.AfterUp(1<<40, func() {})
			mustClose(t, mustNew(t, cfg))
			empty(t, n.Home)
			break
		}
		<-broke
		if errors.Is(err, ErrBlocked) {
			t.Fatalf("after %d bytes: %v", at, err)
		}
		again := mustNew(t, cfg)
		if (at/900)%2 == 0 { // the script may still be at work
			eventually(t, "it is locked", func() bool { err = again.Lock(t.Context()); return err == nil })
		}
		if again.Token() != "" {
			eventually(t, "it is closed", func() bool { err = again.Close(t.Context()); return err == nil || errors.Is(err, ErrNotOpen) })
		}
		noState(t, cfg)
		eventually(t, "nothing is left", func() bool {
			left, err := os.ReadDir(n.Home)
			return err == nil && len(left) == 0
		})
	}
}

// forced is a node on which a shell line comes before every command.
func forced(line string) testnode.Option {
	return testnode.WithConfig(`ForceCommand cd "$HOME"; ` + line + `; exec sh -c "$SSH_ORIGINAL_COMMAND"`)
}

// What follows the mkdir fails: folder, parents and state are taken back.
func TestTakenBackWhenTheRecordFails(t *testing.T) {
	n := testnode.Start(t, forced("ulimit -f 0")) // folders can be made, but nothing be written
	cfg := config(t, n, "x/y/z")
	_, err := Lock(t.Context(), cfg)
	if err == nil || errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "owner record cannot be written") {
		t.Errorf("lock: %v", err)
	}
	empty(t, n.Home)
	noState(t, cfg)
}

func TestNoPermission(t *testing.T) {
	n := testnode.Start(t, testnode.AsUser()) // root may do anything
	for dir, words := range map[string]string{"closed/b": "the folder cannot be made: ", "closed/a/b": "a folder above it cannot be made: "} {
		if err := os.MkdirAll(filepath.Join(n.Home, "closed"), 0o555); err != nil {
			t.Fatal(err)
		}
		cfg := config(t, n, dir)
		_, err := Lock(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "closed/") || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("lock: %v", err)
		}
		noState(t, cfg)
		empty(t, filepath.Join(n.Home, "closed"))
	}
}

// What the login shell says around the answers of the node is not taken for them.
func TestNoisyLogin(t *testing.T) {
	n := testnode.Start(t, forced(`echo "Welcome! $SSH_ORIGINAL_COMMAND"; echo "=quota: none" >&2; printf 'no line end'; trap 'echo bye' EXIT; sh -c "$SSH_ORIGINAL_COMMAND"; exit 7`))
	cfg := config(t, n, "x/b")
	b := mustLock(t, cfg)
	if h, err := b.Holder(t.Context()); err != nil || !h.Ours {
		t.Errorf("holder %+v, %v", h, err)
	}
	_, err := Lock(t.Context(), config(t, n, "x/b"))
	var blocked *BlockedError
	if !errors.As(err, &blocked) || blocked.Record == nil || blocked.Record.Token != b.Token() {
		t.Errorf("second: %v", err)
	}
	mustClose(t, b)
	empty(t, n.Home)
	noState(t, cfg)
}

// A login that runs no commands is told apart from one that is locked, or whose folder is full.
func TestLoginWithoutCommands(t *testing.T) {
	n := testnode.Start(t, testnode.WithConfig("ForceCommand echo This account is for files only."))
	cfg := config(t, n, "b")
	_, err := Lock(t.Context(), cfg)
	var h interface{ Hint() string }
	if err == nil || errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "This account is for files only.") || !errors.As(err, &h) || !strings.Contains(h.Hint(), "ForceCommand") {
		t.Errorf("lock: %v", err)
	}
	empty(t, n.Home)
}

func TestUnreachable(t *testing.T) {
	n := testnode.Start(t)
	n.Stop()
	cfg := config(t, n, "b")
	_, err := Lock(t.Context(), cfg)
	var h interface{ Hint() string }
	if err == nil || !errors.As(err, &h) || h.Hint() == "" {
		t.Errorf("lock: %v", err)
	}
	noState(t, cfg)
}
