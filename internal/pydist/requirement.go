package pydist

import (
	"fmt"
	"regexp"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"
)

// Requirement is what a distribution, or an operator, asks for.
type Requirement struct {
	Name   string   // normalized
	Extras []string // normalized
	Spec   string   // versions, such as ">=1.0,<2"; "" for any
	URL    string   // of "name @ URL"
	Marker string   // "" for always
}

var requirementForm = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*(.*)$`)

// ParseRequirement parses one requirement of PEP 508. The old form with the
// versions in parentheses is taken, too.
func ParseRequirement(text string) (Requirement, error) {
	m := requirementForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Requirement{}, fmt.Errorf("requirement %q: does not begin with a project's name", text)
	}
	r := Requirement{Name: Normalize(m[1])}
	for extra := range strings.SplitSeq(m[2], ",") {
		if extra = strings.TrimSpace(extra); extra != "" {
			r.Extras = append(r.Extras, Normalize(extra))
		}
	}
	rest := m[3]
	if url, ok := strings.CutPrefix(rest, "@"); ok {
		url, r.Marker, _ = strings.Cut(strings.TrimSpace(url), " ;")
		r.URL, r.Marker = strings.TrimSpace(url), strings.TrimSpace(r.Marker)
	} else {
		r.Spec, r.Marker, _ = strings.Cut(rest, ";")
		r.Spec, r.Marker = strings.TrimSpace(r.Spec), strings.TrimSpace(r.Marker)
		if inner, ok := strings.CutPrefix(r.Spec, "("); ok && strings.HasSuffix(inner, ")") {
			r.Spec = strings.TrimSpace(inner[:len(inner)-1])
		}
	}
	if r.Spec != "" {
		if _, err := pep440.NewSpecifiers(r.Spec); err != nil {
			return Requirement{}, fmt.Errorf("requirement %q: %w", text, err)
		}
	}
	if r.Marker != "" {
		if _, err := parseMarker(r.Marker); err != nil {
			return Requirement{}, fmt.Errorf("requirement %q: %w", text, err)
		}
	}
	return r, nil
}

// String is the requirement without its marker.
func (r Requirement) String() string {
	s := r.Name
	if len(r.Extras) > 0 {
		s += "[" + strings.Join(r.Extras, ",") + "]"
	}
	if r.URL != "" {
		return s + " @ " + r.URL
	}
	return s + r.Spec
}

// Admits tells whether a version is one of those asked for; what cannot be
// understood is.
func (r Requirement) Admits(version string) bool { return admits(r.Spec, version) }

// admits tells whether a version is one of those asked for. What cannot be
// understood is admitted, and so are pre-releases: pip may take them, too.
func admits(spec, version string) bool {
	if spec == "" {
		return true
	}
	v, err := pep440.Parse(version)
	if err != nil {
		return true
	}
	s, err := pep440.NewSpecifiers(spec, pep440.WithPreRelease(true))
	return err != nil || s.Check(v)
}

// less orders versions; those that are none come first.
func less(a, b string) bool {
	va, errA := pep440.Parse(a)
	vb, errB := pep440.Parse(b)
	if errA != nil || errB != nil {
		return errA != nil && (errB == nil || a < b)
	}
	return va.LessThan(vb)
}

// isPlain tells whether the text is a version, without a wildcard.
func isPlain(text string) bool {
	_, err := pep440.Parse(text)
	return err == nil
}
