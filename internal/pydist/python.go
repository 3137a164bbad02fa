package pydist

import (
	"slices"
	"strconv"
	"strings"
)

// Python is what is known of an interpreter on a node.
type Python struct {
	Version        string   `json:"version"`        // such as "3.11.2"
	Implementation string   `json:"implementation"` // the short form of wheels' tags, such as "cp"
	ABIs           []string `json:"abis"`           // such as "cp311", the best first; without "abi3" and "none"
	Platforms      []string `json:"platforms"`      // such as "manylinux_2_36_x86_64", the best first; without "any"
	Markers        Markers  `json:"markers"`
}

// digits is the version as it is in tags, such as 311, and its parts.
func (p *Python) parts() (major, minor int) {
	words := strings.SplitN(p.Version, ".", 3)
	if len(words) >= 2 {
		major, _ = strconv.Atoi(words[0])
		minor, _ = strconv.Atoi(words[1])
	}
	return major, minor
}

// Fits tells whether a wheel with this tag can be installed; see PEP 425.
func (p *Python) Fits(t Tag) bool {
	major, minor := p.parts()
	exact := p.Implementation + strconv.Itoa(major) + strconv.Itoa(minor)
	if t.Platform != "any" && !slices.Contains(p.Platforms, t.Platform) {
		return false
	}
	switch {
	case t.Python == exact && slices.Contains(p.ABIs, t.ABI):
		return t.Platform != "any" || p.Implementation != "cp"
	case t.ABI == "abi3":
		// The limited API: of this minor version or an older one; a free-threaded Python has none.
		n, ok := p.minorOf(t.Python, p.Implementation, major)
		return ok && p.Implementation == "cp" && t.Platform != "any" && n >= 2 && n <= minor && !p.freeThreaded()
	case t.ABI != "none":
		return false
	case t.Python == exact:
		return true
	case t.Python == p.Implementation+strconv.Itoa(major):
		return t.Platform == "any"
	case t.Python == "py"+strconv.Itoa(major):
		return true
	}
	n, ok := p.minorOf(t.Python, "py", major)
	return ok && n <= minor
}

func (p *Python) freeThreaded() bool {
	return slices.ContainsFunc(p.ABIs, func(abi string) bool { return strings.HasSuffix(abi, "t") })
}

// minorOf gives the minor version in a tag such as py311.
func (p *Python) minorOf(tag, prefix string, major int) (int, bool) {
	rest, ok := strings.CutPrefix(tag, prefix+strconv.Itoa(major))
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil
}

// Takes tells whether one of the wheel's tags fits, and the interpreter is of a
// version that the distribution is for. Of nil, an unknown Python, it tells true.
func (p *Python) Takes(d *Dist) bool {
	if p == nil {
		return true
	}
	if d.RequiresPython != "" && !admits(d.RequiresPython, p.Version) {
		return false
	}
	return !d.Wheel() || slices.ContainsFunc(d.Tags, p.Fits)
}
