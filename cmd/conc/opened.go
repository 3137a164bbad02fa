package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
)

// A bundle that is open belongs to the deploy.ini and the node that it was opened
// with. What deploy.ini says of that node may change meanwhile, a new release being
// the usual case: the bundle is then still to be found, looked at and closed.

// states gives all bundles that are open here. What cannot be read of them load has told.
func (a *app) states() []bundle.State {
	states, _ := bundle.List(a.stateDir)
	return states
}

// sameFile tells whether two paths lead to one file, whichever links they go through.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	x, err := filepath.EvalSymlinks(a)
	if err != nil {
		return false
	}
	y, err := filepath.EvalSymlinks(b)
	return err == nil && x == y
}

// ofFile gives sameFile with one file for who asks often.
func ofFile(file string) func(string) bool {
	known := map[string]bool{}
	return func(other string) bool {
		same, ok := known[other]
		if !ok {
			same = sameFile(file, other)
			known[other] = same
		}
		return same
	}
}

// openOf gives the nodes with an open bundle that was opened from a deploy.ini:
// those that are in it, in its order, then those that no longer are.
func openOf(f *deploy.File, states []bundle.State) []*deploy.Node {
	var names []string
	for _, n := range f.Nodes() {
		names = append(names, n.Name)
	}
	ours := ofFile(f.Path())
	open := map[string]bool{}
	for _, st := range states {
		if ours(st.Deploy) {
			open[st.Node] = true
			if !slices.Contains(names, st.Node) {
				names = append(names, st.Node)
			}
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !open[name] })
	nodes := make([]*deploy.Node, len(names))
	for i, name := range names {
		nodes[i] = nodeOrGone(f, name)
	}
	return nodes
}

// nodeOrGone gives a node, of one that is no longer in deploy.ini the name alone.
func nodeOrGone(f *deploy.File, name string) *deploy.Node {
	if n, err := f.Node(name); err == nil {
		return n
	}
	return &deploy.Node{Name: name}
}

// selectOpen gives the nodes that are named; one with an open bundle need not be
// in deploy.ini any more.
func selectOpen(f *deploy.File, states []bundle.State, names []string) ([]*deploy.Node, error) {
	open := openOf(f, states)
	var nodes []*deploy.Node
	for _, name := range names {
		i := slices.IndexFunc(open, func(n *deploy.Node) bool { return n.Name == name })
		list, err := f.Select(name)
		if err != nil && i < 0 {
			return nil, usagef(hintOf(err), "%w", err)
		}
		if err != nil {
			list = open[i : i+1]
		}
		for _, n := range list {
			if !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes, nil
}

// openState gives what is known here of the bundle of a node: as deploy.ini has it
// now, if that is open, else as it was opened; nil when none is open.
func (a *app) openState(f *deploy.File, n *deploy.Node) *bundle.State {
	ours := ofFile(f.Path())
	var other *bundle.State
	for _, st := range a.states() {
		if st.Node != n.Name || !ours(st.Deploy) {
			continue
		}
		if isNow(&st, n) {
			return &st
		}
		if other == nil {
			other = &st
		}
	}
	return other
}

// isNow tells whether an open bundle is where deploy.ini has the node's now.
func isNow(st *bundle.State, n *deploy.Node) bool {
	return st.Dir == n.Bundle() && st.Target == address(n)
}

// address is how deploy.ini has a node now: a key that is missing does not matter.
func address(n *deploy.Node) string {
	return remote.Target{Host: n.Host(), User: n.User(), Port: n.Port()}.String()
}

// session gives the session of a node: of an open bundle as it was opened if that
// is meant.
func (a *app) session(sel *selection, n *deploy.Node) (*session, error) {
	if sel.opened {
		if st := a.openState(sel.file, n); st != nil && !isNow(st, n) {
			s := &session{app: a, file: sel.file, node: n, target: st.Reach, dir: st.Dir}
			return s, s.configure(st.MountPoint, "")
		}
	}
	return a.newSession(sel.file, n)
}

// openedElsewhere is the error of who would begin something with a node's bundle
// while it is open as deploy.ini had it before; nil when it is not.
func (s *session) openedElsewhere() error {
	st := s.app.openState(s.file, s.node)
	if st == nil || st.Dir == s.dir && st.Target == s.target.String() {
		return nil
	}
	return &blockedError{fmt.Errorf("%s: bundle %s at %s is open, which %s now has as %s at %s",
		s.node.Name, st.Dir, st.Target, filepath.Base(s.file.Path()), s.dir, s.target),
		"close it first: conc close " + s.node.Name + "\nor put deploy.ini back as it was, to go on with it"}
}

// nowText is what deploy.ini has of a node's bundle, for people.
func nowText(f *deploy.File, n *deploy.Node) string {
	if _, err := f.Node(n.Name); err != nil {
		return "no such node"
	}
	return n.Bundle() + " at " + address(n)
}
