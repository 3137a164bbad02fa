package remote

import "strings"

// Quote joins args to one command line in which a POSIX shell sees exactly
// args, each as one word: nothing in them is expanded, split or taken as
// syntax. A word made of safe characters only is left as it is, anything else
// is put in single quotes. Bytes that are not UTF-8 pass unchanged.
//
// A NUL byte cannot be part of an argument on any POSIX system. Quote keeps it,
// and Start refuses a command that has one, so it never shortens a word silently.
func Quote(args ...string) string {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		quoteWord(&b, arg, i == 0)
	}
	return b.String()
}

// quoteWord writes one word. The first word of a command is quoted when it has
// a '=': a shell would take NAME=value there as an assignment.
func quoteWord(b *strings.Builder, word string, first bool) {
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !safeRune(r, first) }) < 0 && !reserved[word] {
		b.WriteString(word)
		return
	}
	b.WriteByte('\'')
	b.WriteString(strings.ReplaceAll(word, "'", `'\''`))
	b.WriteByte('\'')
}

func safeRune(r rune, first bool) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	case r == '=':
		return !first
	}
	return strings.ContainsRune("_-./,:@%+", r)
}

// reserved words have a meaning at the begin of a command only when unquoted.
var reserved = map[string]bool{
	"if": true, "then": true, "else": true, "elif": true, "fi": true, "do": true, "done": true,
	"case": true, "esac": true, "while": true, "until": true, "for": true, "in": true,
	"function": true, "select": true, "time": true, "coproc": true,
}
