package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// work is a workload. It happens in the folder t below the one that is mounted.
type work struct {
	name, title string
	trips       int    // of a peer that waits for every answer, about
	placed      string // the tree that the node has before, "" for none

	before     func(b *bench, m *mounted, t string) error    // what is done in the mount first, and not measured
	mounted    func(b *bench, m *mounted, t string) error    // nil: not for mounts
	push, pull string                                        // the tree that a peer that copies sends or gets, "" for not for those
	with       func(b *bench, p *peer, dir string) *exec.Cmd // another command for those, nil for none
	check      func(b *bench, t string) error                // looks at what is on the node then
	reads      bool                                          // all that is placed: it is compared afterwards

	deploys map[string]func(b *bench, dir string) (deployment, error) // of each peer that can, for a work that is neither of mounts nor a copy
}

// allWorks makes the workloads for trees of these sizes.
func allWorks(s sizes) []*work {
	small := s.folders * s.files
	works := []*work{
		{name: "mount", title: "mount a folder", mounted: func(*bench, *mounted, string) error { return nil }},
		{
			name: "small-in", title: fmt.Sprintf("copy *small* (%d files) in, until on the node", small), trips: 9 * small / 2,
			mounted: func(b *bench, _ *mounted, t string) error { return b.run(exec.Command("cp", "-r", b.tree("small"), t)) },
			push:    "small",
			check:   same("small"),
		},
		{
			name: "small-rm", title: "rm -rf *small*, which was copied in, until gone", trips: 6 * small,
			before:  func(b *bench, _ *mounted, t string) error { return b.run(exec.Command("cp", "-r", b.tree("small"), t)) },
			mounted: remove, check: isGone,
		},
		{name: "small-rm-cold", title: "rm -rf *small*, which was there, until gone", trips: 3 * small / 2, placed: "small", mounted: remove, check: isGone},
		{
			name: "small-ls", title: "ls -lR *small*, cold", trips: 2 * s.folders, placed: "small",
			mounted: list,
		},
		{
			name: "small-read", title: "read all of *small*, cold", trips: 3 * small, placed: "small",
			mounted: read, pull: "small", reads: true,
		},
		{
			name: "git", title: fmt.Sprintf("git clone of %d files, fsck, status, until on the node", s.git), trips: 9 * s.git / 2,
			mounted: func(b *bench, _ *mounted, t string) error {
				return b.run(shell(`git clone -q "$1" "$2" && git -C "$2" fsck --no-progress && test -z "$(git -C "$2" status --porcelain)"`, b.tree("git"), t))
			},
			check: func(b *bench, t string) error {
				return errors.Join(
					b.run(shell(`git -C "$1" fsck --no-progress && test -z "$(git -C "$1" status --porcelain)"`, t)),
					b.run(exec.Command("diff", "-r", "-x", ".git", b.tree("git"), t)),
				)
			},
		},
		{
			name: "big-in", title: fmt.Sprintf("write *big* (%d MiB), until on the node", s.big>>20), trips: 100,
			mounted: func(b *bench, _ *mounted, t string) error { return b.run(exec.Command("cp", "-r", b.tree("big"), t)) },
			push:    "big",
			check:   same("big"),
		},
		{name: "big-read", title: "read *big*, cold", trips: 400, placed: "big", mounted: read, pull: "big", reads: true},
	}
	for _, n := range s.untar {
		archive := fmt.Sprintf("archive%d", n)
		works = append(works, &work{
			name: fmt.Sprintf("untar-%d", n), title: fmt.Sprintf("untar %d files, until on the node", n), trips: 11 * n,
			mounted: func(b *bench, _ *mounted, t string) error {
				return b.run(shell(`mkdir "$2" && tar xf "$1" -C "$2"`, b.tree(archive), t))
			},
			with: func(b *bench, p *peer, dir string) *exec.Cmd {
				if p.name != "tar" {
					return nil
				}
				return shell(`ssh -F "$2" node "mkdir $3/t && tar xf - -C $3/t" <"$1"`, b.tree(archive), b.config, dir)
			},
			check: func(b *bench, t string) error { return sameArchive(b.tree(archive), t) },
		})
	}
	return slices.Concat(works, readWorks(s), deployWorks(s))
}

func remove(b *bench, _ *mounted, t string) error { return b.run(exec.Command("rm", "-rf", t)) }

func isGone(_ *bench, t string) error {
	if _, err := os.Lstat(t); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is still there: %v", t, err)
	}
	return nil
}

// same compares what is on the node with a tree.
func same(tree string) func(*bench, string) error {
	return func(b *bench, t string) error { return sameTree(b.tree(tree), t) }
}

// list lists a tree.
func list(b *bench, _ *mounted, t string) error { return b.run(exec.Command("ls", "-lR", t)) }

// read reads all files of a mount, with one program, in the order of the folders.
func read(b *bench, _ *mounted, t string) error {
	return b.run(shell(`find "$1" -type f -print0 | xargs -0 cat >/dev/null`, t))
}

// tree is the local path of a tree or archive.
func (b *bench) tree(name string) string { return filepath.Join(b.dir, "sources", name) }

// makeTrees makes what the workloads need.
func (b *bench) makeTrees() error {
	if err := os.Mkdir(filepath.Join(b.dir, "sources"), 0o755); err != nil {
		return err
	}
	needs := func(prefix string) bool {
		for _, w := range b.works {
			if strings.HasPrefix(w.name, prefix) {
				return true
			}
		}
		return false
	}
	s := b.o.sizes
	var errs []error
	if needs("small") {
		errs = append(errs, makeSmall(b.tree("small"), s.folders, s.files))
	}
	if needs("big") {
		errs = append(errs, makeBig(b.tree("big"), s.big))
	}
	if needs("git") {
		errs = append(errs, makeSmall(b.tree("git"), (s.git+19)/20, min(20, s.git)), b.run(shell(
			`cd "$1" && git init -q && git add . && git -c user.name=bench -c user.email=bench@example.org commit -q -m files`, b.tree("git"))))
	}
	if needs("deploy") {
		errs = append(errs, makeArtifacts(b.tree("deploy"), s.wheels))
	}
	for _, n := range s.untar {
		if needs(fmt.Sprintf("untar-%d", n)) {
			errs = append(errs, makeArchive(b.tree(fmt.Sprintf("archive%d", n)), n))
		}
	}
	return errors.Join(errs...)
}
