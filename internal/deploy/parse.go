package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Parse is Load for text that is already read; path is for messages and for
// what is relative to the file.
func Parse(path string, text []byte, check StepCheck) (*File, error) {
	p := &problems{}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read deploy file: %w", err)
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		home = ""
	}
	f := &File{path: abs, name: path, byName: map[string]*Node{}, home: home}
	if len(text) > maxSize {
		p.add(Origin{File: path, Line: 1}, "", "larger than %d bytes", maxSize)
		return nil, p.errors()
	}
	b := &builder{file: f, problems: p, budget: &budget{maxWork}, check: check}
	b.sort(scan(path, string(text), p))
	b.nodes()
	b.steps()
	if b.budget.left < 0 {
		p.add(Origin{File: path, Line: 1}, "give fewer nodes or attributes, or split the file", "too large: nodes times attributes and steps pass the limit")
	}
	if len(p.list) == 0 && len(f.nodes) == 0 {
		p.add(Origin{File: path, Line: 1}, "add a section [node:NAME]", "the file has no node")
	}
	if err := p.errors(); err != nil {
		return nil, err
	}
	return f, nil
}

// builder makes a File of its sections.
type builder struct {
	file     *File
	problems *problems
	budget   *budget
	check    StepCheck

	defaults *section
	groups   []*section
	members  map[string][]*section // node → its groups, in file order
}

// sort files the sections by what they describe.
func (b *builder) sort(sections []*section) {
	f := b.file
	b.members = map[string][]*section{}
	for _, s := range sections {
		switch s.kind {
		case jobsSection:
			f.lists = append(f.lists, readJobs(s, b.problems))
			continue
		case defaultSection:
			b.defaults = s
		case groupSection:
			b.groups = append(b.groups, s)
		case nodeSection:
			n := &Node{Name: s.name, file: f, origin: s.origin, home: f.home, attrs: map[string]*attr{}}
			f.nodes = append(f.nodes, n)
			f.byName[s.name] = n
			b.layer(n, s)
		}
		for _, e := range s.entries {
			b.key(s, e)
		}
	}
	b.problems.total = len(f.nodes)
	for _, g := range b.groups {
		b.group(g)
	}
}

// builtin are the attributes below [DEFAULT].
var builtin = map[string]string{
	"python": "python3",
	"mount":  "~/%(bundle)s/%(name)s",
}

// known are the keys with a meaning of their own.
var known = []string{"admin", "artifacts", "bundle", "mount", "name", "nodes", "op_key", "product", "python", "venv",
	"sshd.config", "sshd.ip", "sshd.jump", "sshd.port", "sshd.timeout"}

const sshdPrefix = "sshd."

// key refuses attributes that could only be a slip.
func (b *builder) key(s *section, e *entry) {
	switch {
	case e.key == "name":
		b.problems.add(e.origin, "rename the section, or choose another key", "name is always the node's name")
	case e.key == "nodes" && s.kind != groupSection:
		b.problems.add(e.origin, "put it in a section [group:NAME], or choose another key", "only a group has nodes")
	case slices.Contains(known, e.key):
	default:
		for _, k := range known {
			if strings.EqualFold(k, e.key) {
				b.problems.add(e.origin, fmt.Sprintf("write %s, or choose another key", k), "differs from %s only in upper and lower case", k)
				return
			}
		}
		if strings.HasPrefix(strings.ToLower(e.key), sshdPrefix) {
			var keys []string
			for _, k := range known {
				if strings.HasPrefix(k, sshdPrefix) {
					keys = append(keys, k)
				}
			}
			hint := nearestHint(e.key, keys)
			if hint == "" {
				hint = listHint("the keys are: ", keys)
			}
			b.problems.add(e.origin, hint, "unknown key")
		}
	}
}

// group reads the nodes of a group.
func (b *builder) group(s *section) {
	g := Group{Name: s.name}
	at := s.origin
	at.Key = "nodes"
	e, ok := s.byKey["nodes"]
	if !ok {
		b.problems.add(at, "write nodes = NODE…", "the group names no nodes")
		return
	}
	g.Nodes = strings.Fields(e.value)
	if len(g.Nodes) == 0 {
		b.problems.add(e.origin, "write nodes = NODE…, or remove the group", "the group names no nodes")
	}
	seen := map[string]bool{}
	for _, name := range g.Nodes {
		switch {
		case !saneName(name):
			b.problems.add(e.origin, "separate the names by blanks; "+nameRule, "malformed node name %q", shorten(name))
		case seen[name]:
			b.problems.add(e.origin, "name it once", "node %q is named twice", name)
		case b.file.byName[name] == nil:
			hint := fmt.Sprintf("add a section [node:%s]", name)
			if b.problems.room() {
				var names []string
				for _, n := range b.file.nodes[:min(len(b.file.nodes), 1000)] {
					names = append(names, n.Name)
				}
				if near := nearestHint(name, names); near != "" {
					hint = near
				}
			}
			b.problems.add(e.origin, hint, "unknown node %q", name)
		default:
			b.members[name] = append(b.members[name], s)
		}
		seen[name] = true
	}
	b.file.groups = append(b.file.groups, g)
}

// nodes merges, substitutes and validates the attributes of every node.
func (b *builder) nodes() {
	for _, n := range b.file.nodes {
		b.merge(n)
		if b.budget.left < 0 {
			return
		}
		ev := &evaluator{node: n, problems: b.problems, budget: b.budget}
		ev.all()
		if b.budget.left < 0 {
			return
		}
		b.validate(n)
	}
	b.mounts()
}

// merge puts the layers below the node's own attributes: its groups, then
// [DEFAULT], then what is built in.
func (b *builder) merge(n *Node) {
	cost := len(n.attrs)
	for _, g := range b.members[n.Name] {
		n.groups = append(n.groups, g.name)
		cost += len(g.entries)
	}
	if b.defaults != nil {
		cost += len(b.defaults.entries)
	}
	if !b.budget.charge(cost * workPerItem) {
		return
	}
	fromGroup := map[string]*entry{}
	for _, g := range b.members[n.Name] {
		for _, e := range g.entries {
			if _, own := n.attrs[e.key]; own || e.key == "nodes" {
				continue
			}
			first, twice := fromGroup[e.key]
			if !twice {
				fromGroup[e.key] = e
			} else if first.value != e.value {
				b.problems.addFor(n, e.origin, "give it in the node's own section, or take the node out of one of the groups",
					"%q differs from %q in [%s] (line %d), and the same node is in both groups",
					shorten(e.value), shorten(first.value), first.origin.Section, first.origin.Line)
			}
		}
	}
	for key, e := range fromGroup {
		n.attrs[key] = &attr{raw: e.value, origin: e.origin}
	}
	if b.defaults != nil {
		b.layer(n, b.defaults)
	}
	for key, value := range builtin {
		if _, ok := n.attrs[key]; !ok {
			n.attrs[key] = &attr{raw: value, origin: Origin{Section: "built-in", Key: key}}
		}
	}
	at := n.origin
	at.Key = "name"
	n.attrs["name"] = &attr{raw: n.Name, value: n.Name, origin: at, state: evalDone}
	if n.attrs["bundle"] == nil {
		at.Key = "bundle"
		b.problems.addFor(n, at, "give bundle = PATH, relative to the home on the node, in [DEFAULT] or here", "missing")
		n.attrs["bundle"] = &attr{origin: at, state: evalFailed}
	}
}

// layer gives a node the attributes of a section that it does not have yet.
func (b *builder) layer(n *Node, s *section) {
	for _, e := range s.entries {
		if _, ok := n.attrs[e.key]; !ok {
			n.attrs[e.key] = &attr{raw: e.value, origin: e.origin}
		}
	}
}

// needVenv are the remote ops that work in the virtual environment.
var needVenv = []string{"venv", "pip", "setup", "python", "test"}

// steps substitutes and checks every job list as every node would run it.
func (b *builder) steps() {
	byDefault := b.file.list(Install) == nil
	for _, n := range b.file.nodes {
		if !b.budget.charge(len(b.file.lists) * workPerItem) {
			return
		}
		ev := &evaluator{node: n, problems: b.problems, budget: b.budget}
		lists := b.file.lists
		// A node without artifacts and product is not meant to use the default list.
		if byDefault && n.attrs["artifacts"] != nil && n.attrs["product"] != nil {
			lists = append([]*jobList{n.defaultList(b.problems)}, lists...)
		}
		for _, l := range lists {
			for _, line := range l.lines {
				b.step(ev, l.name, line)
			}
		}
	}
}

func (b *builder) step(ev *evaluator, list string, line jobLine) {
	s, ok := ev.step(list, line)
	if !ok {
		return
	}
	if line.host == Remote && slices.Contains(needVenv, line.op) && ev.node.attrs["venv"] == nil {
		b.problems.addFor(ev.node, line.origin, "give venv = PATH, relative to the home on the node", "remote %s needs the attribute venv", line.op)
	}
	if b.check == nil {
		return
	}
	if err := b.check(s); err != nil {
		o := line.origin
		b.problems.addError(&Error{File: o.File, Line: o.Line, Section: o.Section, Key: o.Key, Msg: err.Error(), Hint: hintOf(err), Err: err}, ev.node.Name)
	}
}
