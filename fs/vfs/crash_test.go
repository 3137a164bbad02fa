package vfs_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/internal/testnode"
)

var (
	crashKills = flag.Int("crash.n", 200, "how many times a file system is killed")
	crashSeed  = flag.Uint64("crash.seed", 0, "the seed of the kills; 0: a new one")
)

// killed is a process that serves a file system and will be killed.
type killed struct {
	cmd *exec.Cmd
	in  *gob.Encoder
	out *gob.Decoder
	err bytes.Buffer
}

func startKilled(t testing.TB, s crashSpec) *killed {
	t.Helper()
	s.Debug = os.Getenv("BUNDLEFS_TEST_DEBUG") != ""
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	k := &killed{cmd: exec.Command("/proc/self/exe")}
	// A race-enabled program waits a second at its end, unless told not to.
	k.cmd.Env = append(os.Environ(), crashEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	k.cmd.Stderr = &k.err
	if s.Disk > 0 {
		k.cmd.SysProcAttr = mountsOfItsOwn()
	}
	stdin, err := k.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := k.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.in, k.out = gob.NewEncoder(stdin), gob.NewDecoder(stdout)
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return k
}

// answer reads the next answer; false if the process has ended.
func (k *killed) answer(t testing.TB) (answer, bool) {
	t.Helper()
	var a answer
	stuck := time.AfterFunc(20*time.Second, func() { k.cmd.Process.Signal(syscall.SIGQUIT) }) // it says where
	defer stuck.Stop()
	err := k.out.Decode(&a)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) {
		return a, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, true
}

// must does an operation that succeeds.
func (k *killed) must(t testing.TB, o op) answer {
	t.Helper()
	if err := k.in.Encode(o); err != nil {
		t.Fatalf("%v: %v\n%s", o, err, k.err.String())
	}
	a, ok := k.answer(t)
	if !ok || a.Errno != 0 {
		k.kill()
		k.wait()
		t.Fatalf("%v: %v %s\n%s", o, a.Errno, a.Text, k.err.String())
	}
	return a
}

// kill is kill -9.
func (k *killed) kill() { k.cmd.Process.Kill() }

// wait returns when the sessions on the node have ended too: those of localNode
// hold standard error.
func (k *killed) wait() { k.cmd.Wait() }

// life is one spool that many processes take up, one after the other.
type life struct {
	*testing.T
	*rand.Rand
	spec  crashSpec
	node  string // the folder on the node
	c     *chooser
	kills int
	done  []string // the last operations, for the message of a failure
	// settled waits until the sessions of a killed process have ended.
	settled func()
}

func newLife(t *testing.T, seed uint64, spec crashSpec, node string) *life {
	r := rand.New(rand.NewPCG(seed, 1))
	return &life{T: t, Rand: r, spec: spec, node: node, c: &chooser{Rand: r, m: newModel()}, settled: func() {}}
}

func (l *life) note(format string, args ...any) {
	l.done = append(l.done, fmt.Sprintf(format, args...))
}

// fail says what is wrong after which operations.
func (l *life) fail(k *killed, format string, args ...any) {
	l.Helper()
	k.kill()
	k.wait()
	l.Fatalf("%s\nafter:\n  %s\n%s", fmt.Sprintf(format, args...), strings.Join(l.done[max(0, len(l.done)-400):], "\n  "), k.err.String())
}

// run kills so many processes and ends with all on the node.
func (l *life) run(kills int) {
	var doubt *op // in flight at the last kill
	for l.kills < kills {
		k := startKilled(l, l.spec)
		if l.IntN(6) == 0 {
			// While it recovers.
			l.pause(time.Duration(l.IntN(150)) * time.Millisecond)
			l.end(k)
			l.reap(k)
			continue
		}
		l.ready(k, &doubt)
		if l.IntN(8) == 0 {
			l.synced(k)
		}
		doubt = l.work(k)
	}
	k := startKilled(l, l.spec)
	l.ready(k, &doubt)
	l.synced(k)
	k.must(l, op{Kind: opEnd})
	k.wait()
	if left, _ := filepath.Glob(filepath.Join(l.spec.Spool, "*")); len(left) > 0 {
		l.Errorf("all is on the node, and yet there is %v", left)
	}
}

// pause lets a random time pass in which anything may happen; nothing waits for it.
func (l *life) pause(d time.Duration) { <-time.After(d) }

func (l *life) end(k *killed) {
	k.kill()
	l.kills++
	l.note("--- killed")
}

// reap waits for the end of a killed process and its sessions.
func (l *life) reap(k *killed) {
	k.wait()
	l.settled()
}

// ready waits until the file system is there, and compares it with the model.
func (l *life) ready(k *killed, doubt **op) {
	l.Helper()
	if _, ok := k.answer(l); !ok {
		l.fail(k, "recovery failed")
	}
	l.c.cut = false
	dump := k.must(l, op{Kind: opDump}).Tree
	o := *doubt
	*doubt = nil
	differences := l.c.m.differences(dump)
	if len(differences) > 0 && o != nil {
		l.c.m, differences = l.decide(k, *o, dump, differences)
	}
	if len(differences) > 0 {
		l.fail(k, "after recovery (in flight: %v):\n  %s", o, strings.Join(differences, "\n  "))
	}
	l.c.m.open = map[int]*mfile{}
	l.c.m.adoptTimes(dump)
}

// decide finds out how far the operation in flight came.
func (l *life) decide(k *killed, o op, dump map[string]string, differences []string) (*model, []string) {
	without, with := l.c.m, l.c.m.clone()
	target := l.inFlight(with, o)
	with.apply(o, unsure)
	if target != nil {
		target.mtime = unsure
	}
	better := with.differences(dump)
	if len(better) == 0 {
		return with, nil
	}
	if o.Kind != opWrite || target == nil {
		return without, append(differences, "or, with what was in flight:")
	}
	// Some bytes may be new, others old.
	_, times := with.describe()
	for p, f := range times {
		if f != target {
			continue
		}
		var before []byte
		if old := without.find(p); old != nil {
			before = old.data
		}
		data := k.must(l, op{Kind: opRead, Path: p}).Data
		if !mixed(data, before, target.data, int(o.Off), int(o.Off)+len(o.Data)) {
			return without, append(differences, p+": not a mixture of old and new bytes")
		}
		target.data = data
		return with, with.differences(dump)
	}
	return without, differences
}

// inFlight is the file that a write or cut works on, in the given model. The
// handles were forgotten with the process, so life keeps the last ones.
func (l *life) inFlight(m *model, o op) *mfile {
	switch o.Kind {
	case opWrite, opTruncate:
		return m.open[o.Handle]
	case opChmod, opUtimes:
		return m.find(o.Path)
	}
	return nil
}

// synced is the barrier, after which the node has all.
func (l *life) synced(k *killed) {
	l.Helper()
	if l.c.cut {
		l.do(k, op{Kind: opHeal})
	}
	l.note("--- barrier")
	k.must(l, op{Kind: opSync})
	dump := map[string]string{}
	if err := dumpTree(contract.OS{Dir: l.node}, ".", dump); err != nil {
		l.fail(k, "%v", err)
	}
	// Files that somebody has open may have a hidden name.
	for p := range dump {
		if strings.HasPrefix(filepath.Base(p), ".bundlefs~") && len(l.c.m.open) > 0 {
			delete(dump, p)
		}
	}
	if differences := l.c.m.differences(dump); len(differences) > 0 {
		l.fail(k, "on the node:\n  %s", strings.Join(differences, "\n  "))
	}
}

// do does one operation of those that succeed.
func (l *life) do(k *killed, o op) {
	l.Helper()
	l.note("%v", o)
	if err := k.in.Encode(o); err != nil {
		l.fail(k, "%v: %v", o, err)
	}
	a, ok := k.answer(l)
	if !ok || a.Errno != 0 {
		l.fail(k, "%v: %v %s", o, a.Errno, a.Text)
	}
	l.took(o, a)
}

func (l *life) took(o op, a answer) {
	l.c.m.apply(o, a.Mtime)
	switch o.Kind {
	case opCut, opHeal:
		l.c.cut = o.Kind == opCut
	}
}

// work does some operations and kills the process in the middle. It returns the
// operation in flight then, if it was not acknowledged.
func (l *life) work(k *killed) *op {
	l.Helper()
	if l.IntN(3) == 0 {
		l.do(k, op{Kind: opCut})
	}
	switch l.IntN(8) {
	case 0:
		l.remoteStep(k)
	case 1:
		l.refused(k)
	}
	for range l.IntN(60) {
		l.do(k, l.c.next())
	}
	switch l.IntN(4) {
	case 0: // with nothing in flight
		l.pause(time.Duration(l.IntN(40)) * time.Millisecond)
		l.end(k)
		l.reap(k)
		return nil
	case 1: // during a barrier
		if !l.c.cut {
			if err := k.in.Encode(op{Kind: opSync}); err != nil {
				l.fail(k, "%v", err)
			}
			l.pause(time.Duration(l.IntN(40)) * time.Millisecond)
			l.end(k)
			l.reap(k)
			return nil
		}
	}
	o := l.c.next()
	if slices.Contains([]opKind{opCut, opHeal, opFsync}, o.Kind) {
		o = op{Kind: opMkdir, Path: fmt.Sprintf("d%d", l.kills), Mode: 0o700}
	}
	l.note("%v (in flight)", o)
	if err := k.in.Encode(o); err != nil {
		l.fail(k, "%v", err)
	}
	l.pause(time.Duration(l.IntN(400)) * time.Microsecond)
	l.end(k)
	a, ok := k.answer(l)
	l.reap(k)
	if ok && a.Errno != 0 {
		l.fail(k, "%v: %v %s", o, a.Errno, a.Text)
	}
	if ok {
		l.note("which was acknowledged")
		l.took(o, a)
		return nil
	}
	// The handles are kept for whoever decides what became of it.
	if o.Kind == opWrite || o.Kind == opTruncate {
		l.c.m.open = map[int]*mfile{o.Handle: l.c.m.open[o.Handle]}
	}
	return &o
}

func seedOf(t *testing.T) uint64 {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-crash.seed %d", seed)
	return seed
}

// TestCrash kills the file system at random moments, time and again, and looks
// each time whether all that was acknowledged is still there, here and, after a
// barrier, on the node.
func TestCrash(t *testing.T) {
	seed := seedOf(t)
	const each = 12
	for i := range (*crashKills + each - 1) / each {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			node := filepath.Join(home, "bundle")
			if err := os.Mkdir(node, 0o755); err != nil {
				t.Fatal(err)
			}
			spec := crashSpec{Home: home, Root: "bundle", Spool: filepath.Join(t.TempDir(), "spool")}
			if i%2 == 0 {
				spec.Journal = 16 << 10
			}
			newLife(t, seed+uint64(i), spec, node).run(each)
		})
	}
}

// TestCrashSSH is TestCrash on a real node.
func TestCrashSSH(t *testing.T) {
	seed := seedOf(t)
	n := testnode.Start(t)
	node := filepath.Join(n.Home, "bundle")
	if err := os.Mkdir(node, 0o755); err != nil {
		t.Fatal(err)
	}
	target := n.Target()
	l := newLife(t, seed, crashSpec{Target: &target, Home: n.Home, Root: "bundle", Spool: filepath.Join(t.TempDir(), "spool")}, node)
	l.settled = func() {
		eventually(t, "the sessions of a killed process end", func() bool { return len(n.Processes()) == 0 })
	}
	l.run(max(10, *crashKills/20))
}
