// Package nearest finds the word that a mistyped one was meant to be.
package nearest

import (
	"strings"

	"github.com/agext/levenshtein"
)

// maxWord bounds the work of comparing; longer words are no typing slips.
const maxWord = 128

// Word returns the candidate with the fewest letters added, removed or changed,
// whatever their case, or "" if none is near enough to be what was meant. Of
// equally near ones it is the first.
func Word(word string, candidates []string) string {
	if len(word) > maxWord {
		return ""
	}
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if len(c) > maxWord {
			continue
		}
		if d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(c), nil); d < least && d < len(c) {
			best, least = c, d
		}
	}
	return best
}
