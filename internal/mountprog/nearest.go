package mountprog

import "bundlefs/internal/nearest"

// unknownOption is the error for a word of -o that is none, and names what was likely meant.
func unknownOption(name string) error {
	known := append([]string(nil), sshWords...)
	for _, o := range options {
		known = append(known, o.name)
	}
	if best := nearest.Word(name, known); best != "" {
		return fail("bundlefs -h lists the options", "unknown option %q: did you mean %s", name, best)
	}
	return fail("bundlefs -h lists the options", "unknown option %q", name)
}
