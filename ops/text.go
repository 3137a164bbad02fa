package ops

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible makes a line from a node or a command fit for a terminal: control
// characters, and the format characters that can hide or turn text around, are
// written as escapes. A carriage return, with which a progress bar starts its
// line over, becomes a space.
func visible(line string) string {
	line = strings.TrimRight(line, "\r\n")
	clean := true
	for i := 0; i < len(line); i++ {
		if c := line[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return line
	}
	var b strings.Builder
	for i, r := range line {
		switch {
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(line[i:]); n == 1 {
				fmt.Fprintf(&b, `\x%02x`, line[i])
				continue
			}
			b.WriteRune(r)
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\r':
			b.WriteByte(' ')
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// nearest gives the candidate that word is most likely meant to be, or "".
func nearest(word string, candidates []string) string {
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of bytes to add, remove or change (Levenshtein).
func distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, change)
		}
	}
	return row[len(b)]
}
