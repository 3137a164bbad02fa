package pydist

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Tag is one of a wheel's tags, such as py3-none-any.
type Tag struct{ Python, ABI, Platform string }

// String is the tag as it is in a file name.
func (t Tag) String() string { return t.Python + "-" + t.ABI + "-" + t.Platform }

var (
	separators = regexp.MustCompile(`[-_.]+`)
	versionEnd = regexp.MustCompile(`^(.+)-([0-9][^-]*)$`)
)

// Normalize gives the form of a project's name by which names are compared.
func Normalize(name string) string {
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}

// IsWheel tells whether the file's name is one of a wheel.
func IsWheel(file string) bool { return strings.HasSuffix(file, ".whl") }

var archives = []string{".tar.gz", ".tgz", ".tar.bz2", ".tar", ".zip"}

// IsSdist tells whether the file's name is one of an sdist that can be read here.
func IsSdist(file string) bool {
	_, _, ok := sdistName(file)
	return ok
}

// sdistName takes the name of an sdist apart: a name, a dash, a version and the
// ending of an archive.
func sdistName(file string) (name, version string, ok bool) {
	base := filepath.Base(file)
	for _, ending := range archives {
		if stem, found := strings.CutSuffix(base, ending); found {
			if m := versionEnd.FindStringSubmatch(stem); m != nil {
				return Normalize(m[1]), m[2], true
			}
			return "", "", false
		}
	}
	return "", "", false
}

// wheelName takes the name of a wheel apart.
func wheelName(file string) (name, version string, tags []Tag, err error) {
	base := filepath.Base(file)
	parts := strings.Split(strings.TrimSuffix(base, ".whl"), "-")
	if !IsWheel(base) || len(parts) != 5 && len(parts) != 6 {
		return "", "", nil, fmt.Errorf("%s: not the name of a wheel: it must be NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl", base)
	}
	last := parts[len(parts)-3:]
	for python := range strings.SplitSeq(last[0], ".") {
		for abi := range strings.SplitSeq(last[1], ".") {
			for platform := range strings.SplitSeq(last[2], ".") {
				tags = append(tags, Tag{python, abi, platform})
			}
		}
	}
	return Normalize(parts[0]), strings.ReplaceAll(parts[1], "_", "+"), tags, nil
}
