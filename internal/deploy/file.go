package deploy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// FileName is the name that Find looks for.
const FileName = "deploy.ini"

// EnvFile names the environment variable that holds the path of the file.
const EnvFile = "CONC_FILE"

// maxSize bounds the file; it is far above what people write.
const maxSize = 1 << 20

// File is a deploy.ini that was read and found right. It does not change
// after Load and may be used by several goroutines.
type File struct {
	path   string // absolute
	name   string // as given to Load; shown in errors
	nodes  []*Node
	byName map[string]*Node
	groups []Group
	lists  []*jobList
	home   string // of the workstation's user; "" when unknown
}

// Group is a [group:NAME]: Nodes are the names of its nodes as written.
type Group struct {
	Name  string
	Nodes []string
}

// StepCheck tells whether a step is one that can be run: a known op, on a host
// where it runs, with arguments that it takes. Load wraps its error with the
// step's place; a Hint() string of the error is kept.
type StepCheck func(Step) error

// Find gives the path of the deploy.ini to use: explicit (the option --file) if
// it is not "", else $CONC_FILE, else deploy.ini in the current folder or the
// nearest parent folder that has one. A file of a parent folder must belong to
// the user or to root, since its job lists are run.
func Find(explicit string) (string, error) {
	if explicit != "" {
		return named(explicit, "--file")
	}
	if env := os.Getenv(EnvFile); env != "" {
		return named(env, "$"+EnvFile)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", FileName, err)
	}
	for here := dir; ; here = filepath.Dir(here) {
		path := filepath.Join(here, FileName)
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
		case err == nil:
			if here == dir {
				return FileName, nil
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Getuid() {
				return "", Errors{{File: path, Msg: "belongs to another user", Hint: "read it, and if you trust its job lists give it with --file " + path}}
			}
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("find %s: %w", FileName, err)
		}
		if here == filepath.Dir(here) {
			return "", Errors{{File: FileName, Msg: "not found in " + dir + " or a parent folder",
				Hint: "go to the product's folder, give the file with --file or $" + EnvFile + ", or make one with: conc init"}}
		}
	}
}

func named(path, by string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", by, err)
	}
	if info.IsDir() {
		return "", fmt.Errorf("%s: %s is a folder, not a file", by, path)
	}
	return path, nil
}

// Load reads and validates the whole file, before anything is done. Every step
// is given to check, as each node would run it; a nil check takes all steps.
// What is wrong in the file is returned as Errors, all of it; a file that
// cannot be read is an error that wraps the cause.
func Load(path string, check StepCheck) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read deploy file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read deploy file: %w", err)
	}
	return Parse(path, text, check)
}

// Path is the absolute path of the file.
func (f *File) Path() string { return f.path }

// Nodes are the nodes in file order.
func (f *File) Nodes() []*Node { return append([]*Node(nil), f.nodes...) }

// Groups are the groups in file order.
func (f *File) Groups() []Group { return append([]Group(nil), f.groups...) }

// Node gives a node by its name; the error names the nearest.
func (f *File) Node(name string) (*Node, error) {
	if n, ok := f.byName[name]; ok {
		return n, nil
	}
	names := make([]string, len(f.nodes))
	for i, n := range f.nodes {
		names[i] = n.Name
	}
	hint := nearestHint(name, names)
	for _, g := range f.groups {
		if g.Name == name {
			hint = "it is a group: write @" + name
		}
	}
	if hint == "" {
		hint = listHint("the nodes are: ", names)
	}
	return nil, Errors{{File: f.name, Msg: fmt.Sprintf("no node %q", name), Hint: hint}}
}

// Select gives the nodes of names, each a node's name, @group or @all, in the
// order named (a group's as its key nodes names them, @all's in file order),
// each node once. Without names it gives none.
func (f *File) Select(names ...string) ([]*Node, error) {
	var out []*Node
	seen := map[*Node]bool{}
	take := func(n *Node) {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	for _, name := range names {
		group, isGroup := strings.CutPrefix(name, "@")
		if !isGroup {
			n, err := f.Node(name)
			if err != nil {
				return nil, err
			}
			take(n)
			continue
		}
		if group == allNodes {
			for _, n := range f.nodes {
				take(n)
			}
			continue
		}
		members, err := f.group(group)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			take(f.byName[m])
		}
	}
	return out, nil
}

func (f *File) group(name string) ([]string, error) {
	names := []string{allNodes}
	for _, g := range f.groups {
		if g.Name == name {
			return g.Nodes, nil
		}
		names = append(names, g.Name)
	}
	hint := nearestHint(name, names)
	if hint == "" {
		hint = listHint("the groups are: ", names)
	}
	return nil, Errors{{File: f.name, Msg: fmt.Sprintf("no group %q", name), Hint: hint}}
}
