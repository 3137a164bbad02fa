package vfs_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// A file that was open and that has lost its name to another one on the node is not taken
// for that after a loss of the link, whatever was asked about the name in between.
func TestReplacedDuringLoss(t *testing.T) {
	for name, c := range map[string]struct {
		write   string // through the handle, before
		with    string // what replaces it
		older   bool   // with a time before that of the file
		stat    bool   // the name is asked for before the loss
		stale   bool
		inPlace bool // the node writes into the file in place of replacing it
	}{
		"other size":                      {with: "another one", stale: true},
		"other size, after a stat":        {with: "another one", stat: true, stale: true},
		"same size, other time":           {with: "CONTENT", older: true, stale: true},
		"same size, after a stat":         {with: "CONTENT", older: true, stat: true, stale: true},
		"written, other size":             {write: "longer content", with: "another one", stale: true},
		"written, after a stat":           {write: "longer content", with: "another one", stat: true, stale: true},
		"written, same size, other time":  {write: "written", with: "another", older: true, stale: true},
		"written, same size after a stat": {write: "written", with: "another", older: true, stat: true, stale: true},
		"changed in place, after a stat":  {with: "more content", inPlace: true, stat: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t, vfs.SharedOptions{})
			h := l.file(t)
			f := filepath.Join(l.node.Home, "f")
			if c.write != "" {
				if err := l.write(h, c.write, 0); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the written file is known", func() bool { return vfs.IsKnown(l.Shared, h, f) })
			}
			target := f
			if !c.inPlace {
				target = filepath.Join(l.node.Home, "new")
			}
			if err := os.WriteFile(target, []byte(c.with), 0o644); err != nil {
				t.Fatal(err)
			}
			if c.older {
				when := time.Now().Add(-time.Hour)
				if err := os.Chtimes(target, when, when); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Rename(target, f); err != nil {
				t.Fatal(err)
			}
			if c.stat {
				vfs.AgeListings(l.Shared, 2*time.Hour) // what is known of the name is too old
				e, err := l.Lookup(t.Context(), vfs.RootIno, "f")
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, "the name shows the new file", func() bool {
					e, err = l.Getattr(t.Context(), e.Attr.Ino, 0)
					return err == nil && int(e.Attr.Size) == len(c.with)
				})
				if c.inPlace {
					eventually(t, "the changed file is known", func() bool { return vfs.IsKnown(l.Shared, h, f) })
				}
			}
			l.link.Reset()
			eventually(t, "the loss is noticed", func() bool {
				return !l.Status().Connected || l.link.Counters().Connections > 1
			})
			got := make([]byte, 20)
			n, err := l.Read(t.Context(), h, got, 0)
			if !c.stale {
				if err != nil || string(got[:n]) != c.with {
					t.Errorf("read %q, %v", got[:n], err)
				}
				return
			}
			if vfs.Errno(err) != syscall.ESTALE {
				t.Errorf("read %q, %v, want ESTALE", got[:n], err)
			}
			if err := l.write(h, "X", 0); vfs.Errno(err) != syscall.ESTALE {
				t.Errorf("write: %v, want ESTALE", err)
			}
			if b, err := os.ReadFile(f); err != nil || string(b) != c.with {
				t.Errorf("the node has %q, %v", b, err)
			}
		})
	}
}
