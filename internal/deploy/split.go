package deploy

import (
	"errors"
	"strings"
)

// quoteState follows POSIX shell quoting through a text, byte by byte.
type quoteState struct {
	quote   byte // ' or " while inside, else 0
	escaped bool // the next byte is taken as it is
}

func (q *quoteState) open() bool  { return q.quote != 0 }
func (q *quoteState) plain() bool { return q.quote == 0 && !q.escaped }

func (q *quoteState) next(c byte) {
	switch {
	case q.escaped:
		q.escaped = false
	case c == '\\' && q.quote != '\'':
		q.escaped = true
	case q.quote == 0 && (c == '\'' || c == '"'):
		q.quote = c
	case q.quote != 0 && c == q.quote:
		q.quote = 0
	}
}

// Errors of Split.
var (
	errOpenQuote     = errors.New("unterminated quote")
	errLoneBackslash = errors.New("nothing follows the backslash at the end")
)

// Split splits a text into words as a POSIX shell does, without expanding
// anything: blanks and newlines separate; single quotes keep all as it is;
// double quotes too, but for a backslash before one of $ ` " \; elsewhere a
// backslash takes the next character as it is, and a backslash before a newline
// takes the newline away. An unterminated quote is an error.
func Split(text string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		inWord bool
		q      quoteState
	)
	for i := 0; i < len(text); i++ {
		c, before := text[i], q
		q.next(c)
		switch {
		case before.escaped:
			if c == '\n' {
				continue
			}
			if before.quote == '"' && strings.IndexByte("$`\"\\", c) < 0 {
				word.WriteByte('\\')
			}
			word.WriteByte(c)
			inWord = true
		case q.escaped: // a backslash that is not itself part of the word
		case q.quote != before.quote: // a quote opens or closes
			inWord = true
		case q.quote == 0 && strings.IndexByte(" \t\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if q.quote != 0 {
		return nil, errOpenQuote
	}
	if q.escaped {
		return nil, errLoneBackslash
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
