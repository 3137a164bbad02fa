package mountprog

// All words for the user are written here. The rules: standard error; every line begins with
// "bundlefs: "; one line of cause, lower case, without a full stop; then, where something can
// be done about it, one line "bundlefs: hint: " with what to do. Data go to standard output.

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"bundlefs/fs"
)

type messages struct{ w io.Writer }

// error prints the cause and, where there is one, the advice.
func (m *messages) error(err error) {
	fmt.Fprintf(m.w, "bundlefs: %s\n", oneLine(err.Error()))
	if h := hintOf(err); h != "" {
		fmt.Fprintf(m.w, "bundlefs: hint: %s\n", oneLine(h))
	}
}

func (m *messages) note(format string, args ...any) {
	fmt.Fprintf(m.w, "bundlefs: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// failure prints an error and returns the exit code for it.
func (m *messages) failure(err error) int {
	m.error(err)
	if errors.Is(err, errInterrupted) {
		return ExitInterrupted
	}
	if errors.Is(err, fs.ErrNoFUSE) {
		return ExitNoFUSE
	}
	return ExitFailed
}

var errInterrupted = errors.New("interrupted")

// hinted is an error with advice.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint }

// fail makes an error with advice; format and args are as in fmt.Errorf.
func fail(hint, format string, args ...any) error {
	return &hinted{fmt.Errorf(format, args...), hint}
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// oneLine joins lines, since a message is one, and shows control characters, since parts of it
// may come from the node.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
