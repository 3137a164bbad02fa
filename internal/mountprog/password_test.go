package mountprog

import (
	"io"
	"os"
	"strings"
	"testing"
)

// The password is the first line of standard input, of which no more is read, and it
// is given for nothing but passwords.
func TestPasswordFromInput(t *testing.T) {
	for input, want := range map[string]struct{ password, rest, err string }{
		"secret\nrest":                         {"secret", "rest", ""},
		"no end":                               {"no end", "", ""},
		" kept \r\n":                           {" kept \r", "", ""},
		"\nrest":                               {"", "rest", "has no password"},
		"":                                     {"", "", "has no password"},
		strings.Repeat("x", maxPassword) + "y": {"", "", "longer than 4096 bytes"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(input); err != nil {
			t.Fatal(err)
		}
		w.Close()
		p, err := passwordFrom(r)
		rest, readErr := io.ReadAll(r)
		r.Close()
		if readErr != nil || want.err == "" && string(rest) != want.rest {
			t.Errorf("%.10q: %q is left, %v", input, rest, readErr)
		}
		if want.err != "" {
			if err == nil || !strings.Contains(err.Error(), want.err) || !strings.Contains(err.Error(), "password_stdin") {
				t.Errorf("%.10q: %v, want %s", input, err, want.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.10q: %v", input, err)
			continue
		}
		if got, err := p.Secret("Password: "); err != nil || got != want.password {
			t.Errorf("%.10q: %q, %v", input, got, err)
		}
		if got, err := p.Secret("Passphrase for key: "); err == nil || got != "" {
			t.Errorf("the password is given for a key: %q", got)
		}
		if _, err := p.Confirm("sure?"); err == nil {
			t.Error("a question was answered")
		}
	}
}
