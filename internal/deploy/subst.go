package deploy

import (
	"sort"
	"strings"
)

// evalState is how far the substitution of an attribute has come.
type evalState int

const (
	evalNew evalState = iota
	evalRunning
	evalDone
	evalFailed // reported; what uses it fails without a word
)

const (
	// maxValue bounds a substituted value, in bytes.
	maxValue = 64 << 10
	// maxWork bounds all substituted text of a file together, so that a small
	// file that multiplies itself cannot take all memory or time.
	maxWork = 64 << 20
	// workPerItem is charged for each attribute and step of each node.
	workPerItem = 64
)

// budget counts down the work of a file.
type budget struct{ left int }

func (b *budget) charge(n int) bool {
	b.left -= n
	return b.left >= 0
}

// evaluator substitutes the values of one node.
type evaluator struct {
	node     *Node
	problems *problems
	budget   *budget
	running  []string // the keys being substituted, outermost first
}

// all substitutes every attribute of the node, in sorted order so that the
// same file gives the same errors.
func (ev *evaluator) all() {
	for _, key := range ev.node.Keys() {
		ev.attr(key)
	}
}

// attr substitutes one attribute and tells whether it could be.
func (ev *evaluator) attr(key string) bool {
	a := ev.node.attrs[key]
	if a.state == evalNew {
		a.state = evalRunning
		ev.running = append(ev.running, key)
		value, ok := ev.expand(a.origin, a.raw)
		ev.running = ev.running[:len(ev.running)-1]
		if ok && key == "mount" {
			value = expandHome(value, ev.node.home)
		}
		if a.value = value; ok {
			a.state = evalDone
		} else {
			a.state = evalFailed
		}
	}
	return a.state == evalDone
}

const percentHint = `write %(name)s for a variable, and %% for a percent sign`

// expand replaces %(key)s and %% in a text that stands at o.
func (ev *evaluator) expand(o Origin, text string) (string, bool) {
	if !ev.budget.charge(len(text) + workPerItem) {
		return "", false
	}
	var out strings.Builder
	ok := true
	for {
		before, rest, found := strings.Cut(text, "%")
		out.WriteString(before)
		if out.Len() > maxValue {
			ev.problems.addFor(ev.node, o, "", "longer than %d bytes after substitution", maxValue)
			return "", false
		}
		if !found {
			return out.String(), ok
		}
		if strings.HasPrefix(rest, "%") {
			out.WriteByte('%')
			text = rest[1:]
			continue
		}
		key, after, closed := strings.Cut(rest, ")s")
		if !strings.HasPrefix(rest, "(") || !closed {
			ev.problems.addFor(ev.node, o, percentHint, "%q is neither a variable nor a percent sign", "%"+shorten(firstLine(rest)))
			return "", false
		}
		value, good := ev.variable(o, key[1:])
		ok = ok && good && ev.budget.charge(len(value))
		out.WriteString(value)
		text = after
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// variable gives the value of a variable that is used at o.
func (ev *evaluator) variable(o Origin, key string) (string, bool) {
	a, ok := ev.node.attrs[key]
	if !ok {
		hint := ""
		if ev.problems.room() {
			hint = nearestHint(key, ev.candidates())
		}
		ev.problems.addFor(ev.node, o, hint, "unknown variable %q", shorten(key))
		return "", false
	}
	if a.state == evalRunning {
		ev.circle(o, key)
		return "", false
	}
	if !ev.attr(key) {
		return "", false
	}
	return a.value, true
}

// circle reports the keys that need each other.
func (ev *evaluator) circle(o Origin, key string) {
	from := 0
	for i, k := range ev.running {
		if k == key {
			from = i
		}
	}
	way := append(append([]string(nil), ev.running[from:]...), key)
	if len(way) > 10 {
		way = append(append(way[:5:5], "…"), way[len(way)-4:]...)
	}
	ev.problems.addFor(ev.node, o, "give one of them a value without the others", "circular variables: %s", strings.Join(way, " → "))
}

// candidates are the node's keys for a hint, as many as can be compared quickly.
func (ev *evaluator) candidates() []string {
	keys := make([]string, 0, len(ev.node.attrs))
	for k := range ev.node.attrs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys[:min(len(keys), 1000)]
}
