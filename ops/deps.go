package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bundlefs/bundle"
	"bundlefs/internal/pydist"
)

// Lack is something that a step of a job list will not find.
type Lack struct {
	Step string // the step's name
	Text string
	Hint string
	// Certain: whatever the node is like, the step cannot succeed.
	Certain bool
}

// Lacks tells, from the metadata of the artifacts, what the pip steps among
// these will not find. Nothing is asked of the node: what may be there already, or be
// made by an earlier step, is not certain. python is the node's; nil when it is not known.
func Lacks(ctx context.Context, env *Env, steps []Step, python *pydist.Python) []Lack {
	if !slices.ContainsFunc(steps, func(s Step) bool { return s.Op == "pip" }) {
		return nil
	}
	f := &forecast{env: env, python: python, files: map[string]*pydist.Dist{}, sources: map[string]string{}, sure: true}
	defer f.close()
	f.begin(ctx)
	for i := range steps {
		if ctx.Err() != nil || !f.step(ctx, &steps[i]) {
			break
		}
	}
	return f.lacks
}

// forecast follows a job list without running it.
type forecast struct {
	env     *Env
	python  *pydist.Python
	files   map[string]*pydist.Dist // what will be in the bundle, by its path there
	sources map[string]string       // all files of the bundle: where they are here; "" of what is not looked into yet
	held    bundle.Files            // the bundle, to look into; nil when it is not open
	fetched string                  // a folder with what was read of a bundle without a mount; "" when nothing was
	sure    bool                    // nothing but these steps has a hand in it
	fresh   bool                    // the venv has only what pip and setup steps installed
	setUp   []*pydist.Dist          // what setup steps installed
	lacks   []Lack
}

// begin takes what is in the bundle already.
func (f *forecast) begin(ctx context.Context) {
	mounted, err := f.env.mounted(ctx)
	if err != nil || !mounted {
		_, err := f.env.Bundle.Status(ctx)
		f.sure = errors.Is(err, bundle.ErrNotOpen) // then there is nothing in it
		return
	}
	if f.held, err = f.env.Bundle.Files(ctx); err != nil {
		f.sure = false
		return
	}
	list, err := f.held.ReadDir(ctx, ".")
	f.sure = err == nil
	for _, e := range list {
		f.sources[e.Name()] = ""
	}
}

// close removes what was fetched.
func (f *forecast) close() {
	if f.held != nil {
		f.held.Close()
	}
	if f.fetched != "" {
		os.RemoveAll(f.fetched)
	}
}

// look takes what matters of the bundle and was not delivered anew by a step before.
func (f *forecast) look(ctx context.Context) {
	for name, source := range f.sources {
		if source == "" && (pydist.IsWheel(name) || pydist.IsSdist(name)) {
			f.add(name, f.fetch(ctx, name))
		}
	}
}

// fetch gives the place here of a file of the bundle; where it cannot be read, one where there is nothing.
func (f *forecast) fetch(ctx context.Context, name string) string {
	if f.env.Bundle.MountPoint() != bundle.None {
		return filepath.Join(f.env.Bundle.MountPoint(), name)
	}
	if f.fetched == "" {
		dir, err := os.MkdirTemp("", "conc-artifacts-")
		if err != nil {
			return name
		}
		f.fetched = dir
	}
	path := filepath.Join(f.fetched, name)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return path
	}
	err = errors.Join(f.held.Read(ctx, name, file), file.Close())
	if err != nil {
		os.Remove(path)
	}
	return path
}

// add notes a file of the bundle.
func (f *forecast) add(name, source string) {
	f.sources[name] = source
	if pydist.IsWheel(name) || pydist.IsSdist(name) {
		if d, err := pydist.Read(source); d != nil && (err == nil || d.Name != "") {
			f.files[name] = d
		}
	}
}

// step follows one step; false where nothing more can be told.
func (f *forecast) step(ctx context.Context, s *Step) bool {
	switch o := s.op.(type) {
	case copyOp:
		list, _, r := o.list(ctx, f.env.Dir)
		if r.Status != OK {
			return false // it will say so itself
		}
		for _, d := range list {
			f.add(d.path, d.source)
		}
	case wheelOp:
		return f.wheels(o)
	case venvOp:
		f.fresh = !o.keep && !o.withPip
		f.setUp = nil
	case setupOp:
		f.look(ctx)
		f.setup(o)
	case pipOp:
		f.look(ctx)
		f.pip(ctx, s, o)
	case stopOp, closeOp:
		return false
	case untarOp:
		f.look(ctx)
		f.untar(o)
	case openOp, mountOp, unmountOp, syncOp, verifyOp:
	default:
		f.sure = false // it may do anything
	}
	return true
}

// wheels notes what a wheel step delivers.
func (f *forecast) wheels(o wheelOp) bool {
	for _, glob := range o.globs {
		found, err := globIn(f.env.Dir, glob)
		if err != nil || len(found) == 0 {
			return false
		}
		for _, file := range found {
			if pydist.IsWheel(file) {
				f.add(path.Join(o.to, filepath.Base(file)), file)
				continue
			}
			d, err := pydist.Read(file)
			if err != nil {
				return false
			}
			built := *d
			built.Tags = []pydist.Tag{{Python: "py3", ABI: "none", Platform: "any"}}
			base := fmt.Sprintf("%s-%s-%s.whl", strings.ReplaceAll(d.Name, "-", "_"), d.Version, built.Tags[0])
			f.files[path.Join(o.to, base)] = &built
			delete(f.sources, path.Join(o.to, base)) // what is there is replaced
		}
	}
	return true
}

// untar: an sdist unpacks to a folder of its own, which pip does not look into; another archive may hold wheels.
func (f *forecast) untar(o untarOp) {
	for name := range f.sources {
		if ok, err := path.Match(o.glob, name); err != nil || ok && f.files[name] == nil {
			f.sure = false
		}
	}
}

// setup notes what a setup step installs; what that requires it may fetch, or fail to.
func (f *forecast) setup(o setupOp) {
	known := false
	for name, d := range f.files {
		if ok, err := path.Match(unpackedName(o.glob), unpackedName(name)); ok && err == nil && !d.Wheel() {
			f.setUp = append(f.setUp, d)
			known = d.Known && !d.Dynamic
		}
	}
	f.sure = f.sure && known
}

// pip tells what a pip step lacks.
func (f *forecast) pip(ctx context.Context, s *Step, o pipOp) {
	say := func(text, hint string, certain bool) {
		f.lacks = append(f.lacks, Lack{s.Name, visible(text), visible(hint), certain && f.sure})
	}
	var pool []*pydist.Dist
	for name, d := range f.files {
		if !strings.Contains(name, "/") { // pip looks in the bundle itself, not in its folders
			pool = append(pool, d)
		}
	}
	options := pydist.Options{NoDeps: slices.Contains(o.options, "--no-deps"), Fresh: f.fresh && f.sure, Installed: f.setUp}
	var targets []pydist.Target
	require := func(list []pydist.Requirement) {
		for _, r := range list {
			targets = append(targets, pydist.Target{Requirement: &r})
		}
	}
	for _, t := range o.targets {
		switch t.kind {
		case "glob":
			matched := false
			for name, d := range f.files {
				if ok, err := path.Match(t.value, name); ok && err == nil {
					matched = true
					targets = append(targets, pydist.Target{Dist: d})
				}
			}
			for name := range f.sources {
				ok, err := path.Match(t.value, name)
				matched = matched || ok && err == nil
			}
			if !matched && !strings.ContainsAny(t.value, "[/") { // of folders in the bundle, not all is known
				say("nothing that is delivered matches "+t.value, "deliver it with a copy step before this one; is it spelled right?", true)
			}
		case "requirement":
			if r, err := pydist.ParseRequirement(t.value); err == nil {
				require([]pydist.Requirement{r})
			}
		default:
			source, ok := f.sources[t.value]
			if !ok {
				if !strings.Contains(t.value, "/") {
					say("the file "+t.value+" is not delivered", "deliver it with a copy step before this one", true)
				}
				continue
			}
			if source == "" {
				source = f.requirements(ctx, t.value)
			}
			list, err := pydist.ReadRequirements(source)
			if err != nil {
				continue // what it includes may lie elsewhere in the bundle
			}
			options.Constraints = append(options.Constraints, list.Constraints...)
			if t.kind == "-c" {
				options.Constraints = append(options.Constraints, list.Requirements...)
			} else {
				require(list.Requirements)
			}
		}
	}
	for _, q := range pydist.NewPool(pool, f.python).Check(targets, options) {
		say(q.Text, q.Hint, q.Certain)
	}
}

// requirements fetches a requirements file with those beside it, which it may include.
func (f *forecast) requirements(ctx context.Context, name string) string {
	for other, source := range f.sources {
		if source == "" && other != name && path.Ext(other) == path.Ext(name) && !strings.HasPrefix(other, ".") {
			f.sources[other] = f.fetch(ctx, other)
		}
	}
	f.sources[name] = f.fetch(ctx, name)
	return f.sources[name]
}

// foresee is BLOCKED when a step that is to be run will certainly lack something.
func (w *work) foresee(ctx context.Context, steps []Step) Result {
	var certain []Lack
	for _, l := range Lacks(ctx, w.env, steps, nil) {
		if l.Certain {
			certain = append(certain, l)
		} else {
			w.log.Warn(l.Text, "node", w.env.Node.Name, "step", l.Step)
		}
	}
	if len(certain) == 0 {
		return Result{}
	}
	var texts, hints []string
	for _, l := range certain {
		texts = append(texts, l.Text)
		if !slices.Contains(hints, l.Hint) {
			hints = append(hints, l.Hint)
		}
	}
	if more := len(texts) - 10; more > 0 {
		texts = append(texts[:10], fmt.Sprintf("and %d more", more))
	}
	return blocked(strings.Join(append(hints, "nothing was begun; all steps can be run again"), "\n"), "step %s: %s", certain[0].Step, strings.Join(texts, "; "))
}

// Advice tells what is unwise in a job list, a line each: what its steps may
// lack, and pip steps that could be one.
func Advice(ctx context.Context, env *Env, steps []Step) []Lack {
	list := Lacks(ctx, env, steps, nil)
	for i := 1; i < len(steps); i++ {
		if steps[i].Op == "pip" && steps[i-1].Op == "pip" {
			list = append(list, Lack{Step: steps[i].Name, Text: "it follows another pip step, and each starts pip anew",
				Hint: "give all to one pip step: it takes several globs and requirements"})
		}
	}
	return list
}
