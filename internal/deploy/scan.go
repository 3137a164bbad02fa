package deploy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"bundlefs/internal/nearest"
)

// The scanner is our own: gopkg.in/ini.v1 gives no line numbers, stops at the first error, merges repeated sections and keys, takes "-" and backquotes specially, and cuts "a ; b # c" at the "#".

// kind is what a section describes.
type kind int

const (
	unknownSection kind = iota // reported; its lines are read and dropped
	defaultSection
	groupSection
	nodeSection
	jobsSection
)

// allNodes is the group that every node is in.
const allNodes = "all"

// section is a section as written.
type section struct {
	kind    kind
	name    string // NAME of [node:NAME] and its like
	origin  Origin // of the header; Key is ""
	entries []*entry
	byKey   map[string]*entry
}

// entry is a key with its value: comments cut, lines trimmed and joined by "\n".
type entry struct {
	key    string
	value  string
	origin Origin
}

// scanner holds the state between lines.
type scanner struct {
	file     string
	problems *problems
	sections []*section
	headers  map[string]int // header → line
	current  *section       // nil before the first header
	key      *entry         // the key whose value may go on; also one that was reported and is dropped
	value    []string       // its lines so far
	indent   int            // of the line that began it
	quote    quoteState     // in a job list: what is open at the end of the line
	orphans  bool           // keys before the first section were reported
}

// scan finds the sections and keys of text, by the rules of Python's
// configparser with "=" as the only delimiter, and reports what breaks them.
func scan(file, text string, p *problems) []*section {
	text = strings.TrimPrefix(text, "\ufeff")
	lines := strings.Split(text, "\n")
	if !utf8.ValidString(text) {
		for i, l := range lines {
			if !utf8.ValidString(l) {
				p.add(Origin{File: file, Line: i + 1}, "save the file as UTF-8", "the text is not valid UTF-8")
				return nil
			}
		}
	}
	s := &scanner{file: file, problems: p, headers: map[string]int{}}
	for i, l := range lines {
		s.line(i+1, strings.TrimSuffix(l, "\r"))
	}
	s.finish()
	return s.sections
}

const blanks = " \t"

func (s *scanner) line(number int, line string) {
	at := Origin{File: s.file, Line: number}
	if s.current != nil {
		at.Section = s.current.origin.Section
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(line[i:])
		s.problems.add(at, "remove it", "control character %q in column %d", r, utf8.RuneCountInString(line[:i])+1)
		return
	}
	body := strings.TrimLeft(line, blanks)
	indent := len(line) - len(body)
	goesOn := s.key != nil && indent > s.indent
	if s.quote.open() && !goesOn && body != "" {
		s.finish() // the quote stays open: splitting the job line reports it
	}
	var quoting *quoteState
	if s.current != nil && s.current.kind == jobsSection {
		quoting = &s.quote
	}
	body, comment := cutComment(body, quoting)
	body = strings.Trim(body, blanks)
	switch {
	case body == "":
		if s.key != nil && !comment {
			s.value = append(s.value, "")
		}
	case goesOn:
		if looksLikeHeader(body) && !s.quote.open() {
			s.problems.add(at, "begin the line with the bracket", "the section header %s is indented, which makes it part of the value above", body)
			return
		}
		s.value = append(s.value, body)
	default:
		quote := s.quote // of this line, which has been gone through
		s.finish()
		s.indent = indent
		if body[0] == '[' {
			s.header(at, body)
			return
		}
		s.begin(at, body)
		s.quote = quote
	}
}

// looksLikeHeader tells a section header of ours from a value in brackets.
func looksLikeHeader(body string) bool {
	if !strings.HasPrefix(body, "[") || !strings.HasSuffix(body, "]") {
		return false
	}
	if body == "[DEFAULT]" {
		return true
	}
	word, _, ok := strings.Cut(body[1:], ":")
	_, known := kinds[word]
	return ok && known
}

// finish ends the value that was being read.
func (s *scanner) finish() {
	if s.key != nil {
		s.key.value = strings.Trim(strings.Join(s.value, "\n"), "\n")
	}
	s.key, s.value, s.quote = nil, nil, quoteState{}
}

var kinds = map[string]kind{"group": groupSection, "node": nodeSection, "jobs": jobsSection}

func (s *scanner) header(at Origin, body string) {
	at.Section = ""
	s.current = &section{byKey: map[string]*entry{}}
	if body[len(body)-1] != ']' {
		s.problems.add(at, "a header is alone on its line, such as [node:NAME]", "malformed section header %q", body)
		s.current.origin = at
		return
	}
	header := body[1 : len(body)-1]
	at.Section = header
	s.current.origin = at
	word, name, hasName := strings.Cut(header, ":")
	k := kinds[word]
	switch {
	case header == "DEFAULT":
		k = defaultSection
	case k == unknownSection:
		s.problems.add(at, headerHint(word), "unknown section")
		return
	case !hasName:
		s.problems.add(at, fmt.Sprintf("write [%s:NAME]", word), "the section has no name")
		return
	case !saneName(name):
		s.problems.add(at, nameRule, "malformed name %q", name)
		return
	case k == groupSection && name == allNodes:
		s.problems.add(at, "choose another name, or put the keys in [DEFAULT]", "the group %q is always all nodes", allNodes)
		return
	}
	if first, ok := s.headers[header]; ok {
		s.problems.add(at, "put all keys under one header", "section given twice, first in line %d", first)
		return
	}
	s.headers[header] = at.Line
	s.current.kind, s.current.name = k, name
	s.sections = append(s.sections, s.current)
}

func headerHint(word string) string {
	switch near := nearest.Word(word, []string{"DEFAULT", "group", "node", "jobs"}); near {
	case "":
		return "the sections are [DEFAULT], [group:NAME], [node:NAME] and [jobs:NAME]"
	case "DEFAULT":
		return "did you mean [DEFAULT]?"
	default:
		return fmt.Sprintf("did you mean [%s:NAME]?", near)
	}
}

// begin reads the first line of a key.
func (s *scanner) begin(at Origin, body string) {
	key, value, ok := strings.Cut(body, "=")
	key, value = strings.TrimRight(key, blanks), strings.TrimLeft(value, blanks)
	s.key, s.value = &entry{key: key}, []string{value}
	switch {
	case s.current == nil:
		if !s.orphans {
			s.problems.add(at, "put [DEFAULT] or [node:NAME] above it", "text before the first section")
		}
		s.orphans = true
		return
	case !ok:
		s.problems.add(at, `write "key = value", and indent a line that continues a value`, `no "=" in %q`, shorten(body))
		return
	case key == "":
		s.problems.add(at, `write "key = value"`, `no key before "="`)
		return
	case !saneKey(key):
		s.problems.add(at, `a key is made of letters, digits, ".", "_" and "-"`, "malformed key %q", shorten(key))
		return
	}
	at.Key = key
	if first, ok := s.current.byKey[key]; ok {
		s.problems.add(at, "remove one of them", "key given twice, first in line %d", first.origin.Line)
		return
	}
	s.key.origin = at
	s.current.byKey[key] = s.key
	s.current.entries = append(s.current.entries, s.key)
}

// cutComment cuts a line at the first ";" or "#" that begins it or follows a
// blank, and tells whether there was one. With quoting, those inside quotes or
// after a backslash belong to the text; the state is carried to the next line.
func cutComment(body string, quoting *quoteState) (string, bool) {
	for i := 0; i < len(body); i++ {
		plain := quoting == nil || quoting.plain()
		if plain && (body[i] == ';' || body[i] == '#') && (i == 0 || strings.IndexByte(blanks, body[i-1]) >= 0) {
			return body[:i], true
		}
		if quoting != nil {
			quoting.next(body[i])
		}
	}
	if quoting != nil {
		quoting.escaped = false // a backslash at the end takes the line's end
	}
	return body, false
}

const nameRule = `a name is made of letters, digits, ".", "_" and "-", and does not begin with "-" or "."`

// saneName tells whether a node, group or job list may be called so: the name
// becomes part of paths and of command lines.
func saneName(name string) bool {
	return saneKey(name) && len(name) <= 128
}

// saneKey tells whether s is a key of an attribute or the name of a step.
func saneKey(s string) bool {
	if s == "" || s[0] == '-' || s[0] == '.' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// shorten keeps what a message quotes readable.
func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
