package nearest

import (
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	candidates := []string{"allow_other", "allow_root", "ro", "StrictHostKeyChecking", strings.Repeat("x", 500)}
	for word, want := range map[string]string{
		"allowother":             "allow_other",
		"allow_rot":              "allow_root",
		"StrictHostKeyCheking":   "StrictHostKeyChecking",
		"stricthostkeychecking":  "StrictHostKeyChecking",
		"RO":                     "ro",
		"quite different":        "",
		"":                       "",
		strings.Repeat("x", 499): "",
	} {
		if got := Word(word, candidates); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
