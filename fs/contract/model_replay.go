package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// failure is how a run of a model test has failed.
type failure struct {
	err  error
	done history // up to the failure
}

// entry is what one worker did.
type entry struct {
	Worker int
	Op     Op
}

// history is what all workers did, in the order in which they began.
type history []entry

// entryPrefix begins the lines of a history, among others in a test's output.
const entryPrefix = `{"Worker":`

// String is one line for each operation.
func (h history) String() string {
	var b strings.Builder
	for _, e := range h {
		line, _ := json.Marshal(e) // no field of it can fail
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// readHistory finds the history in the output of a test.
func readHistory(output []byte) (history, error) {
	var h history
	for line := range bytes.Lines(output) {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte(entryPrefix)) {
			continue
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		h = append(h, e)
	}
	if len(h) == 0 {
		return nil, fmt.Errorf("there is no line that begins with %s", entryPrefix)
	}
	return h, nil
}

// note keeps what a worker is about to do.
func (c *crew) note(worker int, o Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.done = append(c.done, entry{worker, o})
	}
}

// fail ends the run, and keeps the first failure.
func (c *crew) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = &failure{err, c.done}
		close(c.stop)
	}
}

// replay does the operations of a failed run again and, if they fail again, looks
// for few of them that do.
func (m *Model) replay(t *testing.T) {
	t.Helper()
	output, err := os.ReadFile(m.Replay)
	if err != nil {
		t.Fatal(err)
	}
	h, err := readHistory(output)
	if err != nil {
		t.Fatalf("%s: %v", m.Replay, err)
	}
	f := m.again(h)
	if f == nil {
		t.Logf("none of the %d operations fails when they are done one after the other", len(h))
		return
	}
	t.Logf("%d of %d operations: %v", len(f.done), len(h), f.err)
	const patience = 2 * time.Minute
	f = m.shrink(f, time.Now().Add(patience))
	t.Errorf("%v\n%s", f.err, f.done)
}

// again does operations in their order, in trees that are emptied before. It returns
// nil if they do not fail.
func (m *Model) again(h history) *failure {
	for _, tree := range []Tree{m.Got, m.Want} {
		if err := empty(tree, "."); err != nil {
			return &failure{err: fmt.Errorf("begin anew: %w", err)}
		}
	}
	if err := m.makeFolders(); err != nil {
		return &failure{err: fmt.Errorf("begin anew: %w", err)}
	}
	var workers []*worker
	for i := range m.Workers {
		workers = append(workers, m.newWorker(i))
	}
	do := func(e entry) error {
		if e.Worker < 0 || e.Worker >= len(workers) {
			return fmt.Errorf("there is no worker %d", e.Worker)
		}
		if e.Op.Kind == "barrier" {
			return m.barrier(e.Op, workers)
		}
		return workers[e.Worker].do(e.Op)
	}
	var failed *failure
	for i, e := range h {
		if err := do(e); err != nil {
			failed = &failure{fmt.Errorf("operation %d, %v: %w", i, e.Op, err), h[:i+1]}
			break
		}
	}
	for _, w := range workers {
		if err := w.close(); err != nil && failed == nil {
			failed = &failure{fmt.Errorf("closing: %w", err), h}
		}
	}
	return failed
}

// shrink leaves out operations for as long as the rest fails, more and more finely.
func (m *Model) shrink(f *failure, until time.Time) *failure {
	for size := max(len(f.done)/2, 1); size > 0; size /= 2 {
		for at := 0; at < len(f.done) && len(f.done) > 1; {
			if time.Now().After(until) {
				return f
			}
			fewer := append(append(history{}, f.done[:at]...), f.done[min(at+size, len(f.done)):]...)
			g := m.again(fewer)
			switch {
			case g != nil && len(g.done) == 0: // the trees are past use
				return f
			case g != nil:
				f = g
			default:
				at += size
			}
		}
	}
	return f
}

// empty removes all that is in a folder.
func empty(tree Tree, dir string) error {
	names, err := tree.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := path.Join(dir, name)
		a, err := tree.Lstat(p)
		if err != nil {
			return err
		}
		if a.Mode&vfs.TypeMask != vfs.TypeDir {
			err = tree.Unlink(p)
		} else if err = empty(tree, p); err == nil {
			err = tree.Rmdir(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
