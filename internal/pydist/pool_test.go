package pydist

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// described is a problem in one line; a ? marks one that is not certain.
func described(list []Problem) string {
	var lines []string
	for _, q := range list {
		line := q.Text
		if !q.Certain {
			line = "? " + line
		}
		if q.Hint == "" {
			line += " (no hint)"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	wheel := func(base string, requires ...string) *Dist {
		for i := range requires {
			requires[i] = "Requires-Dist: " + requires[i]
		}
		return read(t, makeWheel(t, t.TempDir(), base+"-py3-none-any.whl", requires...))
	}
	sdist := func(base string, files ...string) *Dist {
		name, version, _ := strings.Cut(base, "-")
		return read(t, makeSdist(t, dir, base+".tar.gz", append([]string{"PKG-INFO", "Metadata-Version: 2.2\nName: " + name + "\nVersion: " + version + "\n"}, files...)...))
	}
	node := &Python{Version: "3.11.2", Implementation: "cp", ABIs: []string{"cp311"}, Platforms: []string{"linux_x86_64"},
		Markers: Markers{"python_version": "3.11", "sys_platform": "linux"}}
	project := "[build-system]\nrequires = [\"setuptools>=61\"]\nbuild-backend = \"setuptools.build_meta\"\n"
	hello := wheel("hello-1.4.2", "greet>=2", "win; sys_platform == 'win32'", "old; python_version < '3.8'", "full; extra == 'full'")
	fresh := Options{Fresh: true}
	for name, c := range map[string]struct {
		pool    []*Dist
		targets string // requirements; else the first of the pool
		options Options
		python  *Python
		want    string
	}{
		"all there":       {pool: []*Dist{hello, wheel("greet-2.1")}, options: fresh, python: node},
		"missing":         {pool: []*Dist{hello}, options: fresh, python: node, want: "hello 1.4.2 needs greet>=2, and there is none among the artifacts"},
		"venv not known":  {pool: []*Dist{hello}, python: node, want: "? hello 1.4.2 needs greet>=2, and there is none among the artifacts"},
		"node not known":  {pool: []*Dist{hello, wheel("greet-2.0")}, options: fresh, want: "? hello 1.4.2 needs old, and there is none among the artifacts"},
		"too old":         {pool: []*Dist{hello, wheel("greet-1.9")}, options: fresh, python: node, want: "hello 1.4.2 needs greet>=2, and there is none among the artifacts, only greet-1.9-py3-none-any.whl"},
		"no deps":         {pool: []*Dist{hello}, options: Options{Fresh: true, NoDeps: true}, python: node},
		"extra":           {pool: []*Dist{hello, wheel("greet-2")}, targets: "hello[Full]", options: fresh, python: node, want: "hello 1.4.2 needs full, and there is none among the artifacts"},
		"transitive":      {pool: []*Dist{hello, wheel("greet-2", "deep.er")}, options: fresh, python: node, want: "greet 2 needs deep-er, and there is none among the artifacts"},
		"another will do": {pool: []*Dist{hello, wheel("greet-3", "deeper"), wheel("greet-2")}, options: fresh, python: node},
		"circular":        {pool: []*Dist{wheel("a-1", "b"), wheel("b-1", "a")}, options: fresh},
		"not there":       {targets: "hello>2", pool: []*Dist{hello}, options: fresh, want: "there is no hello>2 among the artifacts, only hello-1.4.2-py3-none-any.whl"},
		"constraint": {pool: []*Dist{hello, wheel("greet-2.5")}, python: node, options: Options{Fresh: true, Constraints: []Requirement{{Name: "greet", Spec: "<2.5"}}},
			want: "hello 1.4.2 needs greet>=2,<2.5, and there is none among the artifacts, only greet-2.5-py3-none-any.whl"},
		"not for this Python": {pool: []*Dist{read(t, makeWheel(t, dir, "c-1-cp310-cp310-linux_x86_64.whl"))}, python: node,
			want: "c-1-cp310-cp310-linux_x86_64.whl does not fit the node's Python 3.11.2: it is for [cp310-cp310-linux_x86_64]"},
		"requires another Python": {pool: []*Dist{read(t, makeWheel(t, dir, "d-1-py3-none-any.whl", "Requires-Python: >=3.12"))}, python: node,
			want: "d-1-py3-none-any.whl does not fit the node's Python 3.11.2: it requires Python >=3.12"},
		"sdist":               {pool: []*Dist{sdist("s-1")}, options: fresh, want: "building s-1.tar.gz needs setuptools, and there is none among the artifacts"},
		"sdist, venv unknown": {pool: []*Dist{sdist("s-1")}, want: "? building s-1.tar.gz needs setuptools, and there is none among the artifacts"},
		"old setuptools":      {pool: []*Dist{sdist("s-1"), wheel("setuptools-66.1.1")}, options: fresh, want: "building s-1.tar.gz needs wheel, and there is none among the artifacts"},
		"old with wheel":      {pool: []*Dist{sdist("s-1"), wheel("setuptools-66.1.1"), wheel("wheel-0.38.4")}, options: fresh},
		"new setuptools":      {pool: []*Dist{sdist("s-1"), wheel("setuptools-75")}, options: fresh},
		"pyproject":           {pool: []*Dist{sdist("s-1", "pyproject.toml", project)}, want: "building s-1.tar.gz needs setuptools>=61, and there is none among the artifacts"},
		"pyproject, too old":  {pool: []*Dist{sdist("s-1", "pyproject.toml", project), wheel("setuptools-60")}, want: "building s-1.tar.gz needs setuptools>=61, and there is none among the artifacts, only setuptools-60-py3-none-any.whl\nbuilding s-1.tar.gz needs wheel, and there is none among the artifacts"},
		"unreadable":          {pool: []*Dist{{File: "x-1-py3-none-any.whl", Name: "x", Version: "1", Tags: []Tag{{"py3", "none", "any"}}}}, options: fresh, python: node},
	} {
		t.Run(name, func(t *testing.T) {
			target := Target{Dist: c.pool[0]}
			if c.targets != "" {
				r, err := ParseRequirement(c.targets)
				if err != nil {
					t.Fatal(err)
				}
				target = Target{Requirement: &r}
			}
			if got := described(NewPool(c.pool, c.python).Check([]Target{target}, c.options)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Every one of many projects requires every other: looked at once each.
func TestCheckIsQuick(t *testing.T) {
	var pool []*Dist
	for i := range 40 {
		d := &Dist{File: fmt.Sprint(i), Name: fmt.Sprint("p", i), Version: "1", Known: true, Tags: []Tag{{"py3", "none", "any"}}}
		for k := range 40 {
			d.Requires = append(d.Requires, Requirement{Name: fmt.Sprint("p", k)})
		}
		pool = append(pool, d)
	}
	pool[39].Requires = append(pool[39].Requires, Requirement{Name: "missing"})
	p := NewPool(pool, nil)
	if got := described(p.Check([]Target{{Dist: pool[0]}}, Options{Fresh: true})); !strings.Contains(got, "missing") {
		t.Error(got)
	}
	if n := len(p.Closure([]Requirement{{Name: "p3"}})); n != 40 {
		t.Error(n)
	}
	if !slices.Equal(p.Named("P3"), []*Dist{pool[3]}) {
		t.Error("names are not normalized")
	}
}
