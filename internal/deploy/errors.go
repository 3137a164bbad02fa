package deploy

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Origin is the place of a value. File is the name given to Load, Line counts
// from 1; a built-in default has File "", Line 0 and Section "built-in".
type Origin struct {
	File    string
	Line    int
	Section string // as written between the brackets, such as "node:node1"
	Key     string
}

// String gives "deploy.ini:12: [node:node1] sshd.port", as far as known.
func (o Origin) String() string {
	var b strings.Builder
	if o.File != "" {
		b.WriteString(o.File)
		if o.Line > 0 {
			fmt.Fprintf(&b, ":%d", o.Line)
		}
		b.WriteString(": ")
	}
	if o.Section != "" {
		fmt.Fprintf(&b, "[%s] ", o.Section)
	}
	b.WriteString(o.Key)
	return strings.TrimRight(b.String(), ": ")
}

// Error is one thing wrong in a deploy.ini, or with a name that was asked of it.
type Error struct {
	File    string // as given to Load
	Line    int    // counted from 1; 0 when the error has no line, such as a node that is asked for and not there
	Section string // without brackets; "" before the first section
	Key     string
	Msg     string // what is wrong
	Hint    string // what to do about it; may be ""
	Err     error  // the cause, such as what StepCheck answered; may be nil
}

// Error gives "deploy.ini:12: [node:node1] sshd.port: malformed port …",
// without the hint.
func (e *Error) Error() string {
	place := Origin{e.File, e.Line, e.Section, e.Key}.String()
	if place == "" {
		return e.Msg
	}
	return place + ": " + e.Msg
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors are all errors of a file, sorted by line. Every error of this package
// that is about the content of a file is one, even when it is alone, so both
// errors.As(err, *Errors) and errors.As(err, **Error) find it.
type Errors []*Error

// Error gives one error a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, x := range e {
		all[i] = x
	}
	return all
}

// Hint gives the hints, one a line, each with its line number when there are
// several errors.
func (e Errors) Hint() string {
	var hints []string
	for _, x := range e {
		switch {
		case x.Hint == "":
		case len(e) > 1 && x.Line > 0:
			hints = append(hints, fmt.Sprintf("line %d: %s", x.Line, x.Hint))
		default:
			hints = append(hints, x.Hint)
		}
	}
	return strings.Join(hints, "\n")
}

// maxErrors bounds what is reported of a file that is no deploy.ini at all.
const maxErrors = 100

// problems collects errors. The same error met on several nodes is kept once,
// with the names of the nodes.
type problems struct {
	list  []*Error
	nodes map[*Error][]string
	seen  map[seenKey]*Error
	total int // nodes are all of the file's; set before the nodes are checked
}

type seenKey struct {
	line         int
	section, key string
	msg          string
}

// add notes an error at o.
func (p *problems) add(o Origin, hint, format string, args ...any) {
	p.addError(&Error{File: o.File, Line: o.Line, Section: o.Section, Key: o.Key, Msg: fmt.Sprintf(format, args...), Hint: hint}, "")
}

// addFor notes an error at o that was met on a node. For a built-in value the
// place is the node's section, where another can be given.
func (p *problems) addFor(n *Node, o Origin, hint, format string, args ...any) {
	if o.Line == 0 {
		key := o.Key
		o = n.origin
		o.Key = key
	}
	p.addError(&Error{File: o.File, Line: o.Line, Section: o.Section, Key: o.Key, Msg: fmt.Sprintf(format, args...), Hint: hint}, n.Name)
}

func (p *problems) addError(e *Error, node string) {
	k := seenKey{e.Line, e.Section, e.Key, e.Msg}
	first, ok := p.seen[k]
	if !ok {
		if p.seen == nil {
			p.seen, p.nodes = map[seenKey]*Error{}, map[*Error][]string{}
		}
		p.seen[k], first = e, e
		p.list = append(p.list, e)
	}
	if node != "" && e.Section != "node:"+node {
		p.nodes[first] = append(p.nodes[first], node)
	}
}

// room tells whether one more error would still be shown, and so is worth a
// hint that takes work to find.
func (p *problems) room() bool { return len(p.list) < maxErrors }

// errors gives what was collected, sorted by line, or nil.
func (p *problems) errors() error {
	if len(p.list) == 0 {
		return nil
	}
	for _, e := range p.list {
		names := unique(p.nodes[e])
		switch n := len(names); {
		case n == 0 || n == p.total:
		case n == 1:
			e.Msg += " (node " + names[0] + ")"
		case n <= 3:
			e.Msg += " (nodes " + strings.Join(names, ", ") + ")"
		default:
			e.Msg += fmt.Sprintf(" (nodes %s and %d more)", strings.Join(names[:3], ", "), n-3)
		}
	}
	p.nodes = nil
	sort.SliceStable(p.list, func(i, j int) bool { return p.list[i].Line < p.list[j].Line })
	if more := len(p.list) - maxErrors; more > 0 {
		at := p.list[maxErrors]
		p.list = append(p.list[:maxErrors:maxErrors], &Error{File: at.File, Line: at.Line, Msg: fmt.Sprintf("%d more errors from here on", more)})
	}
	return Errors(p.list)
}

func unique(names []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// hintOf gives the hint that a foreign error carries.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
