package ops

import "fmt"

// Status is how a step, or a run, ended.
type Status int

// The statuses; the zero value is OK.
const (
	OK       Status = iota
	Blocked         // a precondition does not hold, nothing was changed
	Failed          // it ran and did not achieve it
	Stopped         // asked to halt; can be resumed
	Error           // the op itself broke: an exception, a lost link, a dead agent
	TimedOut        // killed with its whole process group
)

var statusNames = [...]string{"OK", "BLOCKED", "FAILED", "STOPPED", "ERROR", "TIMED OUT"}

// String is the word that users see.
func (s Status) String() string {
	if s < 0 || int(s) >= len(statusNames) {
		return fmt.Sprintf("status %d", int(s))
	}
	return statusNames[s]
}

// MarshalText gives the word, for JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the word.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("unknown status %q", text)
}
