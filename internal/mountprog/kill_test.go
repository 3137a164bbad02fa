package mountprog

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	kills    = flag.Int("kills", 10, "how many times bundlefs is killed while it is written to")
	killSeed = flag.Uint64("kills.seed", 0, "the seed of that; 0: a new one")
)

// scribe writes files in a mount and knows what was acknowledged.
type scribe struct {
	*rand.Rand
	dir   string
	files map[string]string // content by name
	// doubtful are the names of a change that was not acknowledged, with what they may
	// have become; "" is gone.
	doubtful map[string]string
	version  int
}

// step makes one change, through several system calls that are acknowledged one by one.
func (s *scribe) step() error {
	s.version++
	name := fmt.Sprintf("d%d/f%d", s.IntN(3), s.IntN(4))
	at := func(name string) string { return filepath.Join(s.dir, name) }
	do := func(call func() error, changes map[string]string) error {
		s.doubtful = changes
		if err := call(); err != nil {
			return err
		}
		for name, content := range changes {
			if s.files[name] = content; content == "" {
				delete(s.files, name)
			}
		}
		s.doubtful = nil
		return nil
	}
	switch s.IntN(6) {
	case 0:
		if s.files[name] == "" {
			return nil
		}
		return do(func() error { return os.Remove(at(name)) }, map[string]string{name: ""})
	case 1:
		other := fmt.Sprintf("d%d/moved%d", s.IntN(3), s.IntN(3))
		if s.files[name] == "" {
			return nil
		}
		return do(func() error { return os.Rename(at(name), at(other)) }, map[string]string{other: s.files[name], name: ""})
	}
	// A temporary name, and the final one when the content is complete.
	tmp := fmt.Sprintf("tmp%d", s.version)
	content := strings.Repeat(fmt.Sprintf("version %d of %s\n", s.version, name), 1+s.IntN(4000))
	if err := os.WriteFile(at(tmp), []byte(content), 0o644); err != nil {
		return err
	}
	s.files[tmp] = content
	return do(func() error { return os.Rename(at(tmp), at(name)) }, map[string]string{name: content, tmp: ""})
}

// check compares what is there with what was acknowledged, and takes over what was in
// doubt.
func (s *scribe) check(t *testing.T) {
	t.Helper()
	have := map[string]string{}
	err := filepath.WalkDir(s.dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		b, err := os.ReadFile(p)
		name, _ := filepath.Rel(s.dir, p)
		have[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	changed := len(s.doubtful) > 0
	for name, content := range s.doubtful {
		changed = changed && have[name] == content
	}
	if changed { // all of it, or nothing
		for name, content := range s.doubtful {
			if s.files[name] = content; content == "" {
				delete(s.files, name)
			}
		}
	}
	s.doubtful = nil
	for name, content := range s.files {
		if have[name] != content {
			t.Errorf("%s: %.40q… of %d bytes, want %.40q… of %d", name, have[name], len(have[name]), content, len(content))
		}
	}
	for name := range have {
		if _, ok := s.files[name]; ok {
			continue
		}
		if !strings.HasPrefix(name, "tmp") { // which was being written
			t.Errorf("%s is there again", name)
		}
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledWhileWriting kills the real bundlefs at random moments while files are written
// and renamed through the kernel. What a system call had acknowledged is there when it is
// mounted again, and on the node after the barrier.
func TestKilledWhileWriting(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kills.seed=%d", seed)
	b, l, bundle := newExclusiveBench(t, os.Getuid())
	s := &scribe{Rand: rand.New(rand.NewPCG(seed, 0)), dir: b.mountpoint, files: map[string]string{}}
	b.must("bundlefs", b.exclusive(l, "ours")...)
	for i := range 3 {
		if err := os.Mkdir(filepath.Join(s.dir, fmt.Sprint("d", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for kill := range *kills {
		if s.IntN(3) == 0 {
			b.cut(l)
		}
		pid := b.status().PID
		shot := make(chan error, 1)
		var aimed atomic.Bool
		time.AfterFunc(time.Duration(s.IntN(120))*time.Millisecond, func() {
			aimed.Store(true)
			shot <- syscall.Kill(pid, syscall.SIGKILL)
		})
		var err error
		for err == nil {
			err = s.step()
		}
		early := !aimed.Load() // then it is bundlefs's error, not the kernel's
		if killed := <-shot; killed != nil {
			t.Fatal(killed)
		}
		// EIO is a request that was just being handed over.
		if early || !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EIO) {
			t.Fatalf("kill %d: %v", kill, err)
		}
		await(t, "the mount process ends", func() bool { return dead(pid) })
		b.must("bundlefs", "unmount", b.mountpoint)
		l.Heal()
		b.must("bundlefs", b.exclusive(l, "ours")...)
		s.check(t)
		if s.IntN(2) == 0 || kill == *kills-1 {
			b.must("bundlefs", "sync", b.mountpoint)
			b.same(bundle)
		}
		if t.Failed() {
			return
		}
	}
	pid := b.status().PID
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
	if left := b.spools(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
