package deploy

import (
	"fmt"
	"strings"
)

// Hosts of a step.
const (
	Local  = "local"  // on the workstation
	Remote = "remote" // on the node
)

// Install is the job list that conc install runs, which has a default.
const Install = "install"

// Step is a line of a job list as one node runs it.
type Step struct {
	List string   // the job list's name
	Name string   // the step's name, unique in its list
	Host string   // Local or Remote
	Op   string   // the kind of work
	Args []string // split into words and substituted
	File string   // place in the file; for a step of the default list that of the attribute it uses
	Line int
}

// jobList is a [jobs:NAME].
type jobList struct {
	name  string
	lines []jobLine
}

// jobLine is a step before substitution.
type jobLine struct {
	name, host, op string
	args           []string
	origin         Origin
}

// JobLists are the names of the job lists in file order; "install" is first
// where it is not written, since it has a default.
func (f *File) JobLists() []string {
	var names []string
	if f.list(Install) == nil {
		names = append(names, Install)
	}
	for _, l := range f.lists {
		names = append(names, l.name)
	}
	return names
}

func (f *File) list(name string) *jobList {
	for _, l := range f.lists {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Jobs gives the steps of a job list as this node runs them. Where the file has
// no [jobs:install], that list is: copy of the words of the attribute
// artifacts, venv, pip of the words of the attribute product; it is an error
// when one of these attributes is missing.
func (n *Node) Jobs(list string) ([]Step, error) {
	p := &problems{}
	l := n.file.list(list)
	switch {
	case l != nil:
	case list == Install:
		l = n.defaultList(p)
	default:
		names := n.file.JobLists()
		hint := nearestHint(list, names)
		if hint == "" {
			hint = listHint("the job lists are: ", names)
		}
		p.add(Origin{File: n.file.name}, hint, "no job list %q", list)
	}
	if len(p.list) > 0 {
		return nil, p.errors()
	}
	ev := &evaluator{node: n, problems: p, budget: &budget{maxWork}}
	steps := make([]Step, 0, len(l.lines))
	for _, line := range l.lines {
		if s, ok := ev.step(l.name, line); ok {
			steps = append(steps, s)
		}
	}
	if len(steps) < len(l.lines) && len(p.list) == 0 {
		p.add(n.origin, "", "the job list %q is too large", list)
	}
	if err := p.errors(); err != nil {
		return nil, err
	}
	return steps, nil
}

// step substitutes the words of a job line. A word stays one word, whatever
// the value that is put into it.
func (ev *evaluator) step(list string, line jobLine) (Step, bool) {
	s := Step{List: list, Name: line.name, Host: line.host, Op: line.op, File: line.origin.File, Line: line.origin.Line}
	ok := ev.budget.charge(workPerItem)
	for _, word := range line.args {
		value, good := ev.expand(line.origin, word)
		ok = ok && good
		s.Args = append(s.Args, value)
	}
	return s, ok
}

// defaultList is the job list install of a file that has none.
func (n *Node) defaultList(p *problems) *jobList {
	l := &jobList{name: Install}
	add := func(name, host, op, key string, words bool) {
		line := jobLine{name: name, host: host, op: op}
		a, ok := n.attrs[key]
		if !ok {
			o := n.origin
			o.Key = key
			p.addFor(n, o, fmt.Sprintf("give %s, or write [jobs:%s]", key, Install), "missing, and the default job list needs it")
			return
		}
		line.origin = a.origin
		if words {
			var err error
			if line.args, err = Split(a.raw); err != nil {
				p.addFor(n, a.origin, quoteHint, "%v", err)
			} else if len(line.args) == 0 {
				p.addFor(n, a.origin, "", "empty, and the default job list needs it")
			}
		}
		l.lines = append(l.lines, line)
	}
	add("deliver", Local, "copy", "artifacts", true)
	add("venv", Remote, "venv", "venv", false)
	add("pip", Remote, "pip", "product", true)
	return l
}

const quoteHint = `quote as in a shell: 'as it is', "with \" inside", or a backslash before one character`

// readJobs turns a [jobs:NAME] into a list.
func readJobs(s *section, p *problems) *jobList {
	l := &jobList{name: s.name}
	if len(s.entries) == 0 {
		p.add(s.origin, "write NAME = HOST OP ARGUMENT…, or remove the section", "the job list has no steps")
	}
	for _, e := range s.entries {
		words, err := Split(e.value)
		if err != nil {
			p.add(e.origin, quoteHint, "%v in %q", err, shorten(e.value))
			continue
		}
		if len(words) == 0 || words[0] != Local && words[0] != Remote {
			first := strings.Join(words[:min(len(words), 1)], "")
			hint := nearestHint(first, []string{Local, Remote})
			if hint == "" {
				hint = "write NAME = HOST OP ARGUMENT…, where HOST is local or remote"
			}
			p.add(e.origin, hint, "unknown host %q", shorten(first))
			continue
		}
		if len(words) == 1 {
			p.add(e.origin, "write NAME = HOST OP ARGUMENT…", "the step has no op")
			continue
		}
		l.lines = append(l.lines, jobLine{name: e.key, host: words[0], op: words[1], args: words[2:], origin: e.origin})
	}
	return l
}
