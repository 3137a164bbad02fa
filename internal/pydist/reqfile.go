package pydist

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// RequirementsFile is what pip reads of a -r or -c file, as far as it matters here.
type RequirementsFile struct {
	Requirements []Requirement
	Constraints  []Requirement // of -c lines in it
	Paths        []string      // lines that name a file or folder, as written
	Hashes       bool          // --hash or --require-hashes is in it
}

const maxIncludes = 20

// ReadRequirements reads a requirements file with those that it includes.
// Lines it does not understand are left out: pip judges them.
func ReadRequirements(file string) (*RequirementsFile, error) {
	f := &RequirementsFile{}
	return f, f.read(file, false, 0)
}

func (f *RequirementsFile) read(file string, constraints bool, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("%s: included too deeply", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	joined := strings.NewReplacer("\\\r\n", "", "\\\n", "").Replace(string(text))
	for line := range strings.Lines(joined) {
		if i := commentAt(line); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		option, value, inline := strings.Cut(words[0], "=")
		if !inline && len(words) > 1 {
			value = words[1]
		}
		switch option {
		case "-r", "--requirement", "-c", "--constraint":
			below := constraints || option == "-c" || option == "--constraint"
			if err := f.read(filepath.Join(filepath.Dir(file), value), below, depth+1); err != nil {
				return err
			}
			continue
		case "--require-hashes":
			f.Hashes = true
		}
		if strings.HasPrefix(words[0], "-") {
			continue
		}
		if i := strings.Index(line, " --"); i >= 0 {
			f.Hashes = f.Hashes || strings.Contains(line[i:], "--hash")
			line = line[:i]
		}
		line = strings.TrimSpace(line)
		if IsWheel(line) || IsSdist(line) || strings.HasPrefix(line, ".") || strings.HasPrefix(line, "/") {
			f.Paths = append(f.Paths, line)
			continue
		}
		r, err := ParseRequirement(line)
		switch {
		case err != nil:
		case constraints:
			f.Constraints = append(f.Constraints, r)
		default:
			f.Requirements = append(f.Requirements, r)
		}
	}
	return nil
}

// commentAt is where a comment begins: a # at the line's start or after a blank; -1 without one.
func commentAt(line string) int {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return i
		}
	}
	return -1
}
