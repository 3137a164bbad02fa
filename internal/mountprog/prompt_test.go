package mountprog

import (
	"errors"
	"strconv"
	"testing"
)

// counting answers every question with how many there were.
type counting struct{ asked int }

func (c *counting) Secret(string) (string, error) { c.asked++; return strconv.Itoa(c.asked), nil }
func (c *counting) Confirm(string) (bool, error)  { return true, nil }

func TestMemory(t *testing.T) {
	p := &memory{terminal: &counting{}}
	ask := func(prompt, want string) {
		t.Helper()
		got, err := p.Secret(prompt)
		if want == "" && !errors.Is(err, errForgotten) || want != "" && (err != nil || got != want) {
			t.Errorf("%s: %q %v, want %q", prompt, got, err, want)
		}
	}
	p.prompter()
	ask("a", "1") // mistyped
	ask("a", "2")
	ask("b", "3")
	if ok, err := p.Confirm("sure"); !ok || err != nil {
		t.Errorf("confirm: %v %v", ok, err)
	}
	p.leave()
	for range 2 {
		if p.prompter() == nil {
			t.Fatal("nobody is asked, though the answers are known")
		}
		ask("a", "2")
		ask("a", "") // it was not right this time
		ask("b", "3")
		ask("c", "")
	}
	if ok, err := p.Confirm("sure"); ok || !errors.Is(err, errForgotten) {
		t.Errorf("confirm: %v %v", ok, err)
	}
	if q := (&memory{}); q.prompter() != nil {
		t.Error("somebody is asked, though there is no terminal and nothing known")
	}
}
