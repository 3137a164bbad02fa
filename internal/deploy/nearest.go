package deploy

import (
	"fmt"
	"strings"

	"bundlefs/internal/nearest"
)

// nearestHint names the candidate that was likely meant, if there is one.
func nearestHint(word string, candidates []string) string {
	if c := nearest.Word(word, candidates); c != "" {
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
