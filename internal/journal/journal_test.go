package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func all(*Event) bool { return true }

func TestAddAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j := New(dir)
	if list, err := j.Read(all); err != nil || len(list) != 0 {
		t.Errorf("an empty journal gives %v, %v", list, err)
	}
	long := []string{strings.Repeat("x", 5000)}
	for i := range 50 {
		long = append(long, fmt.Sprint(i))
	}
	if err := j.Add(Event{Kind: Opened, Node: "n1", Bundle: "b"}); err != nil {
		t.Fatal(err)
	}
	if err := j.Add(Event{Kind: End, Node: "n2", Status: "OK", Output: long}); err != nil {
		t.Fatal(err)
	}
	list, err := j.Read(func(e *Event) bool { return e.Node == "n2" })
	if err != nil || len(list) != 1 || list[0].Status != "OK" || len(list[0].Output) != maxOutput || list[0].Output[maxOutput-1] != "49" {
		t.Errorf("got %+v, %v", list, err)
	}
	if list[0].PID != os.Getpid() || list[0].Time.IsZero() {
		t.Errorf("who and when: %+v", list[0])
	}
	if info, err := os.Stat(filepath.Join(dir, "journal.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLockID(t *testing.T) {
	a, b := LockID("0123456789abcdef"), LockID("0123456789abcdee")
	if a == b || a != LockID("0123456789abcdef") || len(a) != 16 || strings.Contains(a, "0123") || LockID("") != "" {
		t.Errorf("%q %q %q", a, b, LockID(""))
	}
}

func TestHalfALineIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journal.jsonl"), []byte(`{"kind":"open","no`), 0o600); err != nil {
		t.Fatal(err)
	}
	j := New(dir)
	if err := j.Add(Event{Kind: Closed}); err != nil {
		t.Fatal(err)
	}
	if list, err := j.Read(all); err != nil || len(list) != 1 || list[0].Kind != Closed {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestPutAsideWhenFull(t *testing.T) {
	dir := t.TempDir()
	j := New(dir)
	if err := j.Add(Event{Kind: Opened}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "journal.jsonl"), MaxSize); err != nil {
		t.Fatal(err)
	}
	if err := j.Add(Event{Kind: Closed}); err != nil {
		t.Fatal(err)
	}
	if list, err := j.Read(all); err != nil || len(list) != 2 {
		t.Errorf("got %d events, %v", len(list), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "journal.jsonl")); err != nil || info.Size() > 1000 {
		t.Errorf("the new one: %v, %v", info, err)
	}
}

func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			j := New(dir)
			for k := range 20 {
				if err := j.Add(Event{Kind: End, Message: strings.Repeat("m", 500*k), Step: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if list, err := New(dir).Read(all); err != nil || len(list) != 160 {
		t.Errorf("%d events, %v", len(list), err)
	}
}
