package pydist

import (
	"fmt"
	"slices"
	"strings"
)

// metadata takes what METADATA or PKG-INFO tells: fields as in a mail's head.
func (d *Dist) metadata(text string) error {
	fields := map[string][]string{}
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break // the description follows
		}
		if line[0] == ' ' || line[0] == '\t' {
			if n := len(fields[last]); n > 0 {
				fields[last][n-1] += "\n" + strings.TrimSpace(line)
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("metadata: %q is no field", line)
		}
		last = strings.ToLower(key)
		fields[last] = append(fields[last], strings.TrimSpace(value))
	}
	first := func(key string) string {
		if values := fields[key]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	if name := first("name"); name == "" || Normalize(name) != d.Name {
		return fmt.Errorf("metadata: the name is %q, and another one in the file's name", name)
	}
	if v := first("version"); v != "" {
		d.Version = v
	}
	d.RequiresPython = first("requires-python")
	for _, text := range fields["requires-dist"] {
		r, err := ParseRequirement(text)
		if err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
		d.Requires = append(d.Requires, r)
	}
	if !d.Wheel() {
		// Before 2.2 nothing is promised; from then on, only what is said to be dynamic can change.
		d.Dynamic = less(first("metadata-version"), "2.2") || slices.ContainsFunc(fields["dynamic"], func(s string) bool {
			return strings.EqualFold(s, "requires-dist")
		})
	}
	return nil
}

// requiresTxt takes setuptools' list of requirements: one a line, in sections
// [EXTRA:MARKER], of which either part may be missing. What it cannot read it leaves out.
func requiresTxt(text string) (list []Requirement) {
	marker := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if section, ok := strings.CutPrefix(line, "["); ok {
			extra, condition, _ := strings.Cut(strings.TrimSuffix(section, "]"), ":")
			marker = condition
			if extra != "" {
				of := fmt.Sprintf("extra == %q", extra)
				if marker = of; condition != "" {
					marker = "(" + condition + ") and " + of
				}
			}
			continue
		}
		r, err := ParseRequirement(line)
		if err != nil {
			continue
		}
		if r.Marker == "" {
			r.Marker = marker
		} else if marker != "" {
			r.Marker = "(" + r.Marker + ") and (" + marker + ")"
		}
		list = append(list, r)
	}
	return list
}
