package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
	"bundlefs/ops"
)

// load reads the deploy.ini: in a mount that of its bundle, unless another is named.
func (a *app) load() (*deploy.File, error) {
	states, err := bundle.List(a.stateDir)
	if err != nil {
		a.ui.warn("", "", "%v", err)
	}
	if a.file == "" && os.Getenv(deploy.EnvFile) == "" {
		if st := mountHere(states); st != nil {
			return a.loadFile(st.Deploy)
		}
	}
	path, err := deploy.Find(a.file)
	if err != nil {
		return nil, usagef(hintOf(err), "%w", err)
	}
	return a.loadFile(path)
}

func (a *app) loadFile(path string) (*deploy.File, error) {
	f, err := deploy.Load(path, ops.Check)
	if err != nil {
		return nil, usagef(hintOf(err), "%w", err)
	}
	return f, nil
}

// selection is the nodes that a command works on.
type selection struct {
	file  *deploy.File
	nodes []*deploy.Node
	// opened: their bundles are meant as they were opened, whatever deploy.ini says by now.
	opened bool
}

// nodes gives the nodes that are named.
func (a *app) nodes(names []string) (*selection, error) {
	f, err := a.load()
	if err != nil {
		return nil, err
	}
	list, err := f.Select(names...)
	if err != nil {
		return nil, usagef(hintOf(err), "%w", err)
	}
	return &selection{file: f, nodes: list}, nil
}

// nodesOrOpen gives the nodes that are named, or the one that is meant when
// none is: whose mount the current folder is in, or whose bundle is the only
// one of this deploy.ini that is open.
func (a *app) nodesOrOpen(names []string) (*selection, error) {
	f, err := a.load()
	if err != nil {
		return nil, err
	}
	states := a.states()
	sel := &selection{file: f, opened: true}
	if len(names) > 0 {
		sel.nodes, err = selectOpen(f, states, names)
		return sel, err
	}
	if st := mountHere(states); st != nil && sameFile(st.Deploy, f.Path()) {
		sel.nodes, err = selectOpen(f, states, []string{st.Node})
		return sel, err
	}
	sel.nodes = openOf(f, states)
	switch len(sel.nodes) {
	case 1:
		return sel, nil
	case 0:
		return nil, &hintedError{fmt.Errorf("no bundle of %s is open here: %w", f.Path(), bundle.ErrNotOpen),
			"open one with 'conc open NODE'; the nodes are " + strings.Join(nodeNames(f.Nodes()), ", ")}
	}
	return nil, usagef("name the node, one of "+strings.Join(nodeNames(sel.nodes), ", "), "%d bundles of %s are open", len(sel.nodes), f.Path())
}

// mountHere gives the bundle whose mount the current folder is in.
func mountHere(states []bundle.State) *bundle.State {
	// The system call answers from the kernel's names; os.Getwd asks the file
	// system, which a mount that hangs would not answer.
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil || n < 2 {
		return nil
	}
	here := string(buf[:n-1])
	for i := range states {
		at := states[i].MountPoint
		if at == bundle.None {
			continue
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(at)); err == nil {
			at = filepath.Join(dir, filepath.Base(at))
		}
		if here == at || strings.HasPrefix(here, at+"/") {
			return &states[i]
		}
	}
	return nil
}

func nodeNames(nodes []*deploy.Node) []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	return names
}

// hintedError is an error with a hint.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// Hint says what to do.
func (e *hintedError) Hint() string { return e.hint }

// target is how a node is reached.
func target(n *deploy.Node) (remote.Target, error) {
	key, err := n.Key()
	if err != nil {
		return remote.Target{}, usagef(hintOf(err), "%w", err)
	}
	t := remote.Target{Host: n.Host(), User: n.User(), Port: n.Port(), IdentityFile: key, Jump: n.Jump(), Timeout: n.Timeout()}
	if !n.UseSSHConfig() {
		t.Config = "none"
	}
	return t, nil
}

// each does something for every node in turn. One error is returned as it is,
// of several nodes each is shown and the worst code counts.
func (a *app) each(ctx context.Context, sel *selection, do func(*session) error) error {
	nodes := sel.nodes
	one := func(n *deploy.Node) error {
		s, err := a.session(sel, n)
		if err != nil {
			return err
		}
		defer s.close()
		return do(s)
	}
	if len(nodes) == 1 {
		return one(nodes[0])
	}
	several := &severalErrors{count: len(nodes)}
	for _, n := range nodes {
		err := one(n)
		if err == nil {
			continue
		}
		a.ui.fail(prefixed{n.Name, err})
		several.codes = append(several.codes, exitCode(err))
		if errors.Is(ctx.Err(), context.Canceled) {
			break
		}
	}
	if len(several.codes) == 0 {
		return nil
	}
	return several
}

// prefixed is an error with the node that it is of.
type prefixed struct {
	node string
	err  error
}

func (e prefixed) Error() string {
	if strings.HasPrefix(e.err.Error(), e.node+":") {
		return e.err.Error()
	}
	return e.node + ": " + e.err.Error()
}
func (e prefixed) Unwrap() error { return e.err }
