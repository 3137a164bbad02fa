package pydist

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Pool is the distributions that an installation can choose from.
type Pool struct {
	dists  map[string][]*Dist // by name, the newest first
	python *Python
}

// NewPool makes a pool of what is in a folder. python is the node's; nil when
// it is not known.
func NewPool(dists []*Dist, python *Python) *Pool {
	p := &Pool{dists: map[string][]*Dist{}, python: python}
	for _, d := range dists {
		p.dists[d.Name] = append(p.dists[d.Name], d)
	}
	for _, list := range p.dists {
		slices.SortStableFunc(list, func(a, b *Dist) int {
			switch {
			case less(b.Version, a.Version):
				return -1
			case less(a.Version, b.Version):
				return 1
			}
			return cmp.Compare(order(a), order(b))
		})
	}
	return p
}

// order: wheels come before sdists of the same version.
func order(d *Dist) int {
	if d.Wheel() {
		return 0
	}
	return 1
}

// Named gives the distributions of a project, the newest first.
func (p *Pool) Named(name string) []*Dist { return p.dists[Normalize(name)] }

// Options of Check.
type Options struct {
	NoDeps      bool          // what the targets require is not installed
	Fresh       bool          // the environment is known to have nothing in it
	Constraints []Requirement // versions of what is installed, but no reason to install it
	Installed   []*Dist       // what is in the environment
}

// Target is what is to be installed: a distribution, or what satisfies a requirement.
type Target struct {
	Dist        *Dist
	Requirement *Requirement
}

// Problem is something that an installation will lack.
type Problem struct {
	Text    string // such as "hello 1.4.2 needs greet>=2, and there is none"
	Hint    string
	Certain bool // whatever the node is like
}

// Check tells what the targets need and cannot get. Each problem comes once.
func (p *Pool) Check(targets []Target, o Options) []Problem {
	c := &checking{pool: p, options: o, done: map[string][]Problem{}}
	var list []Problem
	for _, t := range targets {
		if t.Dist != nil {
			list = append(list, c.misfit(t.Dist)...)
			list = append(list, c.dist(t.Dist, nil)...)
		} else {
			list = append(list, c.requirement(*t.Requirement, nil, "", o.Fresh)...)
		}
	}
	return once(list)
}

// once leaves out problems that were told before.
func once(list []Problem) []Problem {
	seen := map[string]int{}
	var left []Problem
	for _, q := range list {
		if i, ok := seen[q.Text]; ok {
			left[i].Certain = left[i].Certain || q.Certain
			continue
		}
		seen[q.Text] = len(left)
		left = append(left, q)
	}
	return left
}

type checking struct {
	pool    *Pool
	options Options
	// done is what was found of each distribution; of one that is being looked
	// at, nothing yet: requirements may be circular.
	done map[string][]Problem
}

// misfit tells why a distribution that was named cannot be installed.
func (c *checking) misfit(d *Dist) []Problem {
	python := c.pool.python
	if python.Takes(d) {
		return nil
	}
	why := fmt.Sprintf("it is for %s", d.Tags)
	if d.RequiresPython != "" && !admits(d.RequiresPython, python.Version) {
		why = "it requires Python " + d.RequiresPython
	}
	return []Problem{{Text: fmt.Sprintf("%s does not fit the node's Python %s: %s", d.Base(), python.Version, why),
		Hint: "deliver one that fits, or set 'python' in deploy.ini to another interpreter of the node", Certain: true}}
}

// dist tells what a distribution with these extras lacks.
func (c *checking) dist(d *Dist, extras []string) (list []Problem) {
	key := fmt.Sprintf("%s%q %t %t", d.File, extras, c.options.NoDeps, c.options.Fresh)
	if found, ok := c.done[key]; ok || !d.Known {
		return found
	}
	c.done[key] = nil
	defer func() {
		list = once(list) // projects that require each other would tell a problem over and over
		c.done[key] = list
	}()
	if !d.Wheel() {
		list = c.build(d)
	}
	if c.options.NoDeps {
		return list
	}
	for _, r := range d.Requires {
		for _, q := range c.requirement(r, extras, d.Name+" "+d.Version+" needs ", c.options.Fresh) {
			q.Certain = q.Certain && !d.Dynamic
			list = append(list, q)
		}
	}
	return list
}

// bare is the first setuptools that builds wheels without the project wheel.
const bare = "70.1"

// build tells what building an sdist lacks. pip builds it in an environment of its own.
func (c *checking) build(d *Dist) (list []Problem) {
	requires, certain := d.BuildRequires, true
	if requires == nil {
		if c.builds() {
			return nil
		}
		// pip may use what is in the environment, when it is there.
		requires, certain = []Requirement{{Name: "setuptools"}}, c.options.Fresh
	}
	intro := "building " + d.Base() + " needs "
	own := *c
	own.options = Options{Fresh: true}
	named := false
	for _, r := range requires {
		list = append(list, own.requirement(r, nil, intro, true)...)
		named = named || r.Name == "wheel"
	}
	if d.Setuptools && !named {
		tools := c.pool.Named("setuptools")
		old := len(tools) > 0 && !slices.ContainsFunc(tools, func(t *Dist) bool { return !less(t.Version, bare) })
		if old {
			list = append(list, own.requirement(Requirement{Name: "wheel"}, nil, intro, true)...)
		}
	}
	for i := range list {
		list[i].Certain = list[i].Certain && certain
		list[i].Hint = "add it to a copy step, or build the wheel on the workstation: local wheel " + d.Base()
	}
	return list
}

// isolating is the first pip that takes no setuptools of the environment unless there is the project wheel, too.
const isolating = "23.1"

// builds tells whether pip builds sdists with what is in the environment.
func (c *checking) builds() bool {
	have := func(name string) *Dist {
		for _, d := range c.options.Installed {
			if d.Name == name {
				return d
			}
		}
		return nil
	}
	pip := have("pip")
	if list := c.pool.Named("pip"); pip == nil && len(list) > 0 {
		pip = list[0]
	}
	return have("setuptools") != nil && (have("wheel") != nil || pip != nil && less(pip.Version, isolating))
}

// requirement tells what is lacking to satisfy a requirement. extras are those
// of who asks; fresh: there is nothing installed that could satisfy it.
func (c *checking) requirement(r Requirement, extras []string, intro string, fresh bool) []Problem {
	applies := evalMarker(r.Marker, c.markers(), extras)
	if applies == no || r.URL != "" {
		return nil
	}
	spec := r.Spec
	for _, k := range c.options.Constraints {
		if k.Name == r.Name && k.Spec != "" && evalMarker(k.Marker, c.markers(), nil) == yes {
			spec = strings.TrimPrefix(spec+","+k.Spec, ",")
		}
	}
	for _, d := range c.options.Installed {
		if d.Name == r.Name && admits(spec, d.Version) {
			return nil
		}
	}
	all := c.pool.Named(r.Name)
	var fitting []*Dist
	for _, d := range all {
		if admits(spec, d.Version) && c.pool.python.Takes(d) {
			fitting = append(fitting, d)
		}
	}
	asked := Requirement{Name: r.Name, Extras: r.Extras, Spec: spec}
	if len(fitting) == 0 {
		q := Problem{Text: fmt.Sprintf("%s%s, and there is none among the artifacts", intro, asked), Certain: applies == yes && fresh,
			Hint: fmt.Sprintf("deliver a wheel or sdist of %s with a copy step", r.Name)}
		if intro == "" {
			q.Text = fmt.Sprintf("there is no %s among the artifacts", asked)
		}
		if len(all) > 0 {
			q.Text += ", only " + names(all)
		}
		return []Problem{q}
	}
	var first []Problem
	certain := applies == yes
	for i, d := range fitting {
		list := c.dist(d, r.Extras)
		if len(list) == 0 {
			return nil // this one can be chosen
		}
		if i == 0 {
			first = slices.Clone(list)
		}
		certain = certain && slices.ContainsFunc(list, func(q Problem) bool { return q.Certain })
	}
	for i := range first {
		first[i].Certain = first[i].Certain && certain
	}
	return first
}

func (c *checking) markers() Markers {
	if c.pool.python == nil {
		return nil
	}
	return c.pool.python.Markers
}

// names lists files, a few of them.
func names(list []*Dist) string {
	set := map[string]bool{}
	for _, d := range list {
		set[d.Base()] = true
	}
	words := slices.Sorted(maps.Keys(set))
	if more := len(words) - 3; more > 0 {
		words = append(words[:3], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// Closure gives what a set of requirements can lead to among the pool, whatever
// markers say: all distributions of each name that can be reached.
func (p *Pool) Closure(requires []Requirement) []*Dist {
	var list []*Dist
	seen := map[string]bool{}
	var visit func(Requirement)
	visit = func(r Requirement) {
		if seen[r.Name] {
			return
		}
		seen[r.Name] = true
		for _, d := range p.Named(r.Name) {
			list = append(list, d)
			for _, below := range append(slices.Clone(d.Requires), d.BuildRequires...) {
				visit(below)
			}
		}
	}
	for _, r := range requires {
		visit(r)
	}
	return list
}
