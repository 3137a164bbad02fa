package pydist

import (
	"fmt"
	"slices"
	"strings"
)

// truth is what is known of a condition.
type truth int

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// Markers are the values of PEP 508's environment markers on a node, such as
// "python_version": "3.11". What is not in it is unknown. nil: nothing is known
// but that the node is POSIX with Python 3.6 or later.
type Markers map[string]string

// oldest is the oldest Python of a node.
const oldest = "3.6"

// marker is a condition; extras are those that were asked for.
type marker interface {
	eval(env Markers, extras []string) truth
}

type (
	anyOf      []marker
	allOf      []marker
	comparison struct{ left, op, right operand }
	operand    struct {
		text string
		name bool // a variable's, else a string
	}
)

func (m anyOf) eval(env Markers, extras []string) truth {
	most := no
	for _, c := range m {
		most = max(most, c.eval(env, extras))
	}
	return most
}

func (m allOf) eval(env Markers, extras []string) truth {
	least := yes
	for _, c := range m {
		least = min(least, c.eval(env, extras))
	}
	return least
}

var mirrored = map[string]string{"<": ">", ">": "<", "<=": ">=", ">=": "<="}

func (c comparison) eval(env Markers, extras []string) truth {
	left, op, right := c.left, c.op.text, c.right
	if !left.name && right.name {
		if op == "in" || op == "not in" {
			value, known := env[right.text]
			if !known {
				return maybe
			}
			return truthOf(strings.Contains(value, left.text) == (op == "in"))
		}
		left, right = right, left
		if m, ok := mirrored[op]; ok {
			op = m
		}
	}
	if !left.name || right.name {
		return maybe
	}
	if left.text == "extra" {
		has := slices.Contains(extras, Normalize(right.text))
		switch op {
		case "==":
			return truthOf(has)
		case "!=":
			return truthOf(!has)
		}
		return maybe
	}
	value, known := env[left.text]
	if !known {
		return unknown(left.text, op, right.text)
	}
	return compare(left.text, value, op, right.text)
}

// unknown is what can be told of a variable of any node.
func unknown(name, op, text string) truth {
	switch {
	case name == "os_name":
		return compare(name, "posix", op, text)
	case name == "sys_platform" && text == "win32", name == "platform_system" && text == "Windows":
		switch op {
		case "==":
			return no
		case "!=":
			return yes
		}
	case (name == "python_version" || name == "python_full_version") && isPlain(text) && !less(oldest, text):
		switch op { // text ≤ the oldest ≤ the node's
		case "<":
			return no
		case ">=":
			return yes
		case "<=", "==":
			if less(text, oldest) {
				return no
			}
		}
	}
	return maybe
}

func compare(name, value, op, text string) truth {
	switch op {
	case "in", "not in":
		return truthOf(strings.Contains(text, value) == (op == "in"))
	case "==", "!=":
		if !isVersion(name) {
			return truthOf((value == text) == (op == "=="))
		}
	}
	if isVersion(name) {
		if _, err := ParseRequirement("x" + op + text); err == nil {
			return truthOf(admits(op+text, value))
		}
	}
	return maybe // such as an order of strings, of which PEP 508 says little
}

func isVersion(name string) bool {
	return name == "python_version" || name == "python_full_version" || name == "implementation_version"
}

// evalMarker evaluates a marker's text; what is malformed may hold.
func evalMarker(text string, env Markers, extras []string) truth {
	if text == "" {
		return yes
	}
	m, err := parseMarker(text)
	if err != nil {
		return maybe
	}
	return m.eval(env, extras)
}

// markerNames maps what older metadata calls the variables to their names.
var markerNames = map[string]string{
	"os.name": "os_name", "sys.platform": "sys_platform", "platform.version": "platform_version",
	"platform.machine": "platform_machine", "platform.python_implementation": "platform_python_implementation",
	"python_implementation": "platform_python_implementation",
}

const maxDepth = 50 // of parentheses

type markerParser struct {
	tokens []operand // words and operators have name set, strings have not
	depth  int
}

func parseMarker(text string) (marker, error) {
	tokens, err := scanMarker(text)
	if err != nil {
		return nil, fmt.Errorf("marker %q: %w", text, err)
	}
	p := &markerParser{tokens: tokens}
	m, err := p.either()
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("%q is too much", p.tokens[0].text)
	}
	if err != nil {
		return nil, fmt.Errorf("marker %q: %w", text, err)
	}
	return m, nil
}

func scanMarker(text string) (tokens []operand, err error) {
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" {
			return tokens, nil
		}
		n := 0
		switch c := text[0]; {
		case c == '"' || c == '\'':
			end := strings.IndexByte(text[1:], c)
			if end < 0 {
				return nil, fmt.Errorf("a quote is not closed")
			}
			tokens = append(tokens, operand{text: text[1 : 1+end]})
			text = text[end+2:]
			continue
		case c == '(' || c == ')':
			n = 1
		case strings.IndexByte("<>=!~", c) >= 0:
			for n < len(text) && strings.IndexByte("<>=!~", text[n]) >= 0 {
				n++
			}
		default:
			for n < len(text) && strings.IndexByte("()<>=!~\"' \t", text[n]) < 0 {
				n++
			}
		}
		tokens = append(tokens, operand{text: text[:n], name: true})
		text = text[n:]
	}
}

// take takes the next token when it is this word.
func (p *markerParser) take(word string) bool {
	if len(p.tokens) > 0 && p.tokens[0].name && p.tokens[0].text == word {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *markerParser) next() (operand, error) {
	if len(p.tokens) == 0 {
		return operand{}, fmt.Errorf("ends too early")
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t, nil
}

func (p *markerParser) either() (marker, error) {
	var all anyOf
	for {
		m, err := p.both()
		if err != nil {
			return nil, err
		}
		if all = append(all, m); !p.take("or") {
			return all, nil
		}
	}
}

func (p *markerParser) both() (marker, error) {
	var all allOf
	for {
		m, err := p.atom()
		if err != nil {
			return nil, err
		}
		if all = append(all, m); !p.take("and") {
			return all, nil
		}
	}
}

func (p *markerParser) atom() (marker, error) {
	if p.take("(") {
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("too many parentheses")
		}
		defer func() { p.depth-- }()
		m, err := p.either()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a parenthesis is not closed")
		}
		return m, err
	}
	var c comparison
	var err error
	if c.left, err = p.value(); err != nil {
		return nil, err
	}
	if p.take("not") {
		if !p.take("in") {
			return nil, fmt.Errorf("'not' is not followed by 'in'")
		}
		c.op.text = "not in"
	} else {
		if c.op, err = p.next(); err != nil {
			return nil, err
		}
		if !slices.Contains([]string{"==", "!=", "<", ">", "<=", ">=", "~=", "===", "in"}, c.op.text) || !c.op.name {
			return nil, fmt.Errorf("%q is no comparison", c.op.text)
		}
	}
	c.right, err = p.value()
	return c, err
}

func (p *markerParser) value() (operand, error) {
	t, err := p.next()
	if err != nil || !t.name {
		return t, err
	}
	if strings.IndexByte("()<>=!~", t.text[0]) >= 0 {
		return t, fmt.Errorf("%q is no value", t.text)
	}
	if name, ok := markerNames[t.text]; ok {
		t.text = name
	}
	return t, nil
}
