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
