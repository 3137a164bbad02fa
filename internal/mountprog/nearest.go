package mountprog

import "strings"

// maxTypos is how far from a word a typed one may be to be taken for it.
const maxTypos = 3

func unknownOption(name string) error {
	best, least := "", maxTypos+1
	consider := func(known string) {
		if d := distance(strings.ToLower(name), strings.ToLower(known)); d < least && d < len(known) {
			best, least = known, d
		}
	}
	for _, o := range options {
		consider(o.name)
	}
	for _, w := range sshWords {
		consider(w)
	}
	if best == "" {
		return fail("bundlefs -h lists the options", "unknown option %q", name)
	}
	return fail("bundlefs -h lists the options", "unknown option %q: did you mean %s", name, best)
}

// distance is the number of bytes to insert, delete or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
