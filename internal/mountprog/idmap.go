package mountprog

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// readIDMaps reads uidfile and gidfile of idmap=file.
func (m *mountConfig) readIDMaps() error {
	var err error
	m.fs.UIDMap, err = readIDs(m.uidFile, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return fmt.Errorf("uidfile: %w", err)
	}
	m.fs.GIDMap, err = readIDs(m.gidFile, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return fmt.Errorf("gidfile: %w", err)
	}
	return nil
}

// readIDs reads lines of NAME:ID: a name or number here, and the number on the node. Empty
// lines and what follows a # are left out. The map is from numbers here to those on the node;
// nil without a file.
func readIDs(file string, lookup func(name string) (string, error)) (map[uint32]uint32, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fail("write it: lines of NAME:NUMBER, a name here and its number on the node", "%w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Mode().Perm()&0o022 != 0 {
		return nil, fail("chmod go-w "+file, "%s can be written by others, who could make themselves owners of files", file)
	}
	ids, remotes := map[uint32]uint32{}, map[uint32]int{}
	in := bufio.NewScanner(f)
	for line := 1; in.Scan(); line++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		bad := func(format string, args ...any) error {
			return fail("write a line as NAME:NUMBER, a name here and its number on the node", "%s:%d: %s", file, line, fmt.Sprintf(format, args...))
		}
		name, number, ok := strings.Cut(text, ":")
		if !ok {
			return nil, bad("%q has no ':'", text)
		}
		remote, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
		if err != nil {
			return nil, bad("%q is not a number", number)
		}
		local, err := strconv.ParseUint(strings.TrimSpace(name), 10, 32)
		if err != nil {
			s, err := lookup(strings.TrimSpace(name))
			if err != nil {
				return nil, bad("%v", err)
			}
			if local, err = strconv.ParseUint(s, 10, 32); err != nil {
				return nil, bad("%v", err)
			}
		}
		if _, twice := ids[uint32(local)]; twice {
			return nil, bad("%s is given twice", name)
		}
		if first, twice := remotes[uint32(remote)]; twice {
			return nil, bad("%d on the node is given twice, first in line %d", remote, first)
		}
		ids[uint32(local)], remotes[uint32(remote)] = uint32(remote), line
	}
	if err := in.Err(); err != nil {
		return nil, fail("it has to be a text file with lines of NAME:NUMBER", "%s: %w", file, err)
	}
	return ids, nil
}
