// Package journal keeps what was run, when, by whom, and how it ended: one
// line of JSON for each event, in a file that only its user can read.
//
// The file is appended to, one write for each event under a lock, so several
// processes can use it at once. When it has grown to [MaxSize] it becomes the
// old one, which the next one of that size replaces.
package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSize is when a journal is put aside, in bytes.
const MaxSize = 8 << 20

// maxOutput bounds the lines kept of a step's output, maxLine each of them.
const (
	maxOutput = 20
	maxLine   = 1000
)

// Kind is the kind of an event.
type Kind string

// The kinds.
const (
	Opened   Kind = "open"
	Closed   Kind = "close"
	Unlocked Kind = "unlock" // somebody else's lock was broken
	RunStart Kind = "run"
	RunEnd   Kind = "run end"
	Start    Kind = "step"
	End      Kind = "step end"
)

// Event is one line.
type Event struct {
	Time    time.Time     `json:"time"`
	Kind    Kind          `json:"kind"`
	User    string        `json:"user"` // who ran it
	Host    string        `json:"host"` // where
	PID     int           `json:"pid"`
	Deploy  string        `json:"deploy,omitempty"` // path of deploy.ini
	Node    string        `json:"node,omitempty"`
	Bundle  string        `json:"bundle,omitempty"`
	Lock    string        `json:"lock,omitempty"`   // which opening of the bundle: see [LockID]
	List    string        `json:"list,omitempty"`   // the job list
	Run     string        `json:"run,omitempty"`    // tells runs apart, those at the same time too
	Steps   []string      `json:"steps,omitempty"`  // of the start of a run: the whole list
	Step    string        `json:"step,omitempty"`   // of the start of a run: the first
	Next    string        `json:"next,omitempty"`   // of what is not OK: the step to go on with
	Op      string        `json:"op,omitempty"`     // host, op and arguments
	Status  string        `json:"status,omitempty"` // of what ended
	Message string        `json:"message,omitempty"`
	Command string        `json:"command,omitempty"` // the step by hand
	Elapsed time.Duration `json:"elapsed,omitempty"` // nanoseconds
	Output  []string      `json:"output,omitempty"`  // the last lines
}

// LockID tells the openings of a bundle apart by their tokens, without telling the token:
// who knows that could take the lock for his. "" for "".
func LockID(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8])
}

// Journal is a place for events.
type Journal struct {
	file string
	who  Event
}

// New gives the journal in a folder, which is made when the first event is
// added.
func New(dir string) *Journal {
	j := &Journal{file: filepath.Join(dir, "journal.jsonl"), who: Event{PID: os.Getpid()}}
	if u, err := user.Current(); err == nil {
		j.who.User = u.Username
	}
	j.who.Host, _ = os.Hostname()
	return j
}

// Add appends an event; who and, unless given, when is filled in.
func (j *Journal) Add(e Event) error {
	e.User, e.Host, e.PID = j.who.User, j.who.Host, j.who.PID
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	e.Output = e.Output[max(0, len(e.Output)-maxOutput):]
	for i, line := range e.Output {
		if len(line) > maxLine {
			e.Output = append([]string(nil), e.Output...)
			e.Output[i] = line[:maxLine] + "…"
		}
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.append(append(line, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *Journal) append(line []byte) error {
	if err := os.MkdirAll(filepath.Dir(j.file), 0o700); err != nil {
		return err
	}
	for {
		f, err := os.OpenFile(j.file, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		full, err := j.appendTo(f, line)
		if err = errors.Join(err, f.Close()); err != nil || !full {
			return err
		}
	}
}

// appendTo writes the line, or tells that the file was put aside.
func (j *Journal) appendTo(f *os.File, line []byte) (again bool, err error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return false, err
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	if there, err := os.Stat(j.file); err != nil || !os.SameFile(mine, there) {
		return true, nil // put aside by another process
	}
	if mine.Size() >= MaxSize {
		return true, os.Rename(j.file, j.old())
	}
	// A process that was killed while it wrote may have left half a line.
	if size := mine.Size(); size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	return false, err
}

func (j *Journal) old() string { return filepath.Join(filepath.Dir(j.file), "journal.old.jsonl") }

// Read gives the events for which keep is true, oldest first. A line that
// cannot be read is left out.
func (j *Journal) Read(keep func(*Event) bool) ([]Event, error) {
	var all []Event
	for _, file := range []string{j.old(), j.file} {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		in := bufio.NewScanner(bytes.NewReader(data))
		in.Buffer(nil, len(data)+1)
		for in.Scan() {
			var e Event
			if json.Unmarshal(in.Bytes(), &e) == nil && e.Kind != "" && keep(&e) {
				all = append(all, e)
			}
		}
	}
	return all, nil
}
