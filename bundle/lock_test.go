package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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

// An opening that was killed before its record was written is continued by the
// next one, and taken back by close.
func TestInterruptedBeforeTheRecord(t *testing.T) {
	n := testnode.Start(t)
	interrupted := func(dir string, phase Phase) Config {
		cfg := config(t, n, dir)
		b := mustNew(t, cfg)
		st := State{Phase: phase, Node: "n1", Dir: dir, MountPoint: None, Record: *newRecord(&cfg)}
		if err := errors.Join(os.Mkdir(filepath.Join(n.Home, dir), 0o700), b.store.save(b.key(), &st)); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	t.Run("opened again", func(t *testing.T) {
		cfg := interrupted("again", PhaseMade)
		token := mustNew(t, cfg).Token()
		b := mustLock(t, cfg)
		if b.Token() != token || !b.IsOpen() {
			t.Errorf("phase %v, another token: %v", b.state.Phase, b.Token() != token)
		}
		mustClose(t, b)
		empty(t, n.Home)
		noState(t, cfg)
	})
	t.Run("closed", func(t *testing.T) {
		cfg := interrupted("closed", PhaseMade)
		mustClose(t, mustNew(t, cfg))
		empty(t, n.Home)
		noState(t, cfg)
	})
	t.Run("claimed by another", func(t *testing.T) {
		cfg := interrupted("claimed", PhaseMade)
		rec := newRecord(&cfg)
		if err := os.WriteFile(filepath.Join(n.Home, "claimed", RecordName), rec.encode(), 0o600); err != nil {
			t.Fatal(err)
		}
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
	t.Run("not known to be ours", func(t *testing.T) {
		cfg := interrupted("unknown", PhaseLocking)
		if err := mustNew(t, cfg).Lock(t.Context()); !errors.Is(err, ErrBlocked) {
			t.Errorf("lock: %v", err)
		}
		mustClose(t, mustNew(t, cfg))
		noState(t, cfg)
		os.Remove(filepath.Join(n.Home, "unknown"))
	})
	t.Run("never made", func(t *testing.T) {
		cfg := interrupted("never", PhaseLocking)
		old := mustNew(t, cfg).Token()
		os.Remove(filepath.Join(n.Home, "never"))
		b := mustLock(t, cfg)
		if b.Token() == old {
			t.Error("an old token was used again")
		}
		mustClose(t, b)
		empty(t, n.Home)
	})
}

// What follows the mkdir fails: folder, parents and state are taken back.
func TestTakenBackWhenTheRecordFails(t *testing.T) {
	// This sftp-server makes folders, but no file can be made in them.
	n := testnode.Start(t, testnode.WithSFTPServer("-P", "open"))
	cfg := config(t, n, "x/y/z")
	_, err := Lock(t.Context(), cfg)
	if err == nil || errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "owner record") {
		t.Errorf("lock: %v", err)
	}
	empty(t, n.Home)
	noState(t, cfg)
}

func TestNoPermission(t *testing.T) {
	n := testnode.Start(t, testnode.WithSFTPServer("-P", "mkdir"))
	cfg := config(t, n, "b")
	if _, err := Lock(t.Context(), cfg); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("lock: %v", err)
	}
	noState(t, cfg)
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
