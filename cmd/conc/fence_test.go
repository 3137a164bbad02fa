package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const bundleDir = "bundle-hello"

// fill writes so many small files into a folder, and calls at after one of them.
func fill(t *testing.T, dir string, from, most, at int, f func()) map[string]string {
	t.Helper()
	files := map[string]string{}
	for i := from; i < most; i++ {
		name, text := fmt.Sprintf("f%04d", i), strings.Repeat(fmt.Sprintf("%04d ", i), 400)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			break // the lock is lost
		}
		if files[name] = text; i == at {
			f()
		}
	}
	return files
}

// The link of the holder freezes while files are on their way, somebody breaks the lock and opens,
// and the link thaws: none of the files is in the other's bundle.
func TestFrozenHolderIsFenced(t *testing.T) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			t.Parallel()
			n, link, w := newLinked(t, helloDeploy)
			link.SetRTT(rtt)
			other := newWorkstation(t, n, n.Target(), "", helloDeploy)
			w.must(exitOK, "open", "open", "node1")
			mount := filepath.Join(w.home, bundleDir, "node1")
			before := link.Counters().Up
			var frozen sync.WaitGroup
			frozen.Add(1)
			link.AfterUp(before+400<<10, func() { link.Pause(); frozen.Done() })
			fill(t, mount, 0, 600, -1, nil)
			frozen.Wait()
			other.must(exitOK, "unlocked", "unlock", "node1", "--force")
			other.must(exitOK, "open", "open", "node1", "-m", "mine now")
			link.Resume()
			w.must(exitBlocked, "lock lost", "sync")
			entries, err := os.ReadDir(filepath.Join(n.Home, bundleDir))
			if err != nil || len(entries) != 1 {
				t.Errorf("in the other's bundle: %v, %v", entries, err)
			}
			w.must(exitOK, "", "close", "--forget")
			other.must(exitOK, "closed", "close")
			lost, err := filepath.Glob(filepath.Join(n.Home, bundleDir+".unlocked-*"))
			if err != nil || len(lost) != 1 {
				t.Fatalf("what was in the lost bundle: %v, %v", lost, err)
			}
			other.nothingLeft(n, filepath.Base(lost[0]))
		})
	}
}

// All SFTP servers hang while files are copied, and are given up; all is sent again over a new
// connection. When the old ones wake up after the barrier, nothing on the node changes.
func TestHungServersAreFenced(t *testing.T) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			t.Parallel()
			n, link, w := newLinked(t, helloDeploy)
			link.SetRTT(rtt)
			impatient(t, w)
			w.must(exitOK, "open", "open", "node1")
			mount := filepath.Join(w.home, bundleDir, "node1")
			var wakeUp func()
			want := fill(t, mount, 0, 400, 200, func() { wakeUp = n.HangServers(0) })
			// Changed and removed again before anything can be sent.
			for i := 0; i < 400; i += 4 {
				name := fmt.Sprintf("f%04d", i)
				if i%8 == 0 {
					delete(want, name)
					if err := os.Remove(filepath.Join(mount, name)); err != nil {
						t.Fatal(err)
					}
				} else if want[name] = "new " + name; os.WriteFile(filepath.Join(mount, name), []byte(want[name]), 0o644) != nil {
					t.Fatal("write again")
				}
			}
			w.must(exitOK, "everything is on the node", "sync")
			if r := w.must(exitOK, "", "status"); strings.Contains(r.stdout, "doubt") {
				t.Errorf("the servers were not ended:\n%s", r.stdout)
			}
			wakeUp()
			w.must(exitOK, "everything is on the node", "sync")
			same(t, filepath.Join(n.Home, bundleDir), want)
			w.must(exitOK, "closed", "close")
			w.nothingLeft(n)
		})
	}
}

// impatient has a workstation give up a connection that is silent for two seconds.
func impatient(t *testing.T, w *workstation) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(w.home, ".ssh", "config"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("  ServerAliveInterval 1\n  ServerAliveCountMax 2\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// same tells whether a bundle on the node has these files, and no others.
func same(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == ".conc-owner.json" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if text, ok := want[e.Name()]; !ok || err != nil || string(data) != text {
			t.Errorf("%s: %d bytes, %v; want %d bytes, known: %v", e.Name(), len(data), err, len(text), ok)
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		t.Errorf("%d files are not there", len(want))
	}
}
