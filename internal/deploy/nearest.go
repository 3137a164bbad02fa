package deploy

import (
	"fmt"
	"strings"
)

// nearest gives the candidate with the fewest changed letters, or "" when none
// is near enough to be what was meant.
func nearest(word string, candidates []string) string {
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if len(c) > 2*maxWord || len(word) > 2*maxWord {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// maxWord bounds the work of comparing names; longer ones are not typing slips.
const maxWord = 64

// distance is the number of letters to add, remove or change (Levenshtein), in
// bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(row[j]+1, row[j-1]+1, change)
		}
	}
	return row[len(b)]
}

func nearestHint(word string, candidates []string) string {
	if c := nearest(word, candidates); c != "" {
		return fmt.Sprintf("did you mean %q?", c)
	}
	return ""
}

// listHint names all candidates, or nothing when there are none or too many to help.
func listHint(intro string, candidates []string) string {
	if len(candidates) == 0 || len(candidates) > 20 {
		return ""
	}
	return intro + strings.Join(candidates, ", ")
}
