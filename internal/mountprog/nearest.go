package mountprog

import (
	"slices"

	"bundlefs/internal/nearest"
)

// unknownOption is the error for a word of -o that is none, and names what was likely meant.
func unknownOption(name string) error {
	var known []string
	for _, o := range options {
		known = append(append(known, o.name), o.also...)
	}
	known = slices.Concat(known, sshWords, sshIgnored, sshOthers)
	if best := nearest.Word(name, known); best != "" {
		return fail("bundlefs -h lists the options", "unknown option %q: did you mean %s", name, best)
	}
	return fail("bundlefs -h lists the options", "unknown option %q", name)
}
