package ops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/pydist"
	"bundlefs/internal/remote"
)

// wheelOp delivers wheels: those that its globs match as they are, and those
// that it builds here of the sdists that its globs match, so that a node needs no
// build tools. What building needs comes from the folders of artifacts, never
// from the internet; see wheelFolders.
type wheelOp struct {
	globs []string
	to    string // as of copyOp
}

func parseWheel(host Host, a *arguments) (operation, error) {
	o, err := parseCopy(host, a)
	if err != nil {
		return nil, err
	}
	c := o.(copyOp)
	return wheelOp(c), nil
}

func (o wheelOp) run(ctx context.Context, t *task) Result {
	env := t.work.env
	if r := deliverable(ctx, env); r.Status != OK {
		return r
	}
	var sdists, wheels []string
	for _, glob := range o.globs {
		found, err := globIn(env.Dir, glob)
		if err != nil {
			return failed("", "%v", err)
		}
		if len(found) == 0 {
			return nothingMatches(env.Dir, glob)
		}
		for _, file := range found {
			list := &sdists
			switch {
			case pydist.IsWheel(file):
				list = &wheels
			case !pydist.IsSdist(file):
				return failed("wheel takes wheels and sdists (NAME-VERSION.tar.gz or .zip); deliver other files with a copy step", "%s is neither a wheel nor an sdist", file)
			}
			if !slices.Contains(*list, file) {
				*list = append(*list, file)
			}
		}
	}
	b := &wheelBuild{t: t, folders: wheelFolders(env, o.globs)}
	defer func() {
		if err := b.close(); err != nil {
			t.work.log.Warn("the cache of wheels", "step", t.step.Name, "error", err)
		}
	}()
	if r := b.all(ctx, sdists); r.Status != OK {
		return r
	}
	all := append(wheels, b.made...)
	if r := o.fit(ctx, t, all); r.Status != OK {
		return r
	}
	var list []delivery
	from := map[string]string{}
	for _, file := range all {
		info, err := os.Stat(file)
		if err != nil {
			return copyResult(ctx, err)
		}
		target := path.Join(o.to, filepath.Base(file))
		if other, taken := from[target]; taken {
			return failed("give one of them only", "%s and %s would both become %s", other, file, target)
		}
		from[target] = file
		list = append(list, delivery{file, target, readable{info}})
	}
	var folders []string
	if o.to != "" {
		folders = []string{o.to}
	}
	r := deliver(ctx, t, list, folders)
	if r.Status == OK && len(sdists) > 0 {
		r.Message = fmt.Sprintf("%d built, %d out of the cache; %s", b.built, len(sdists)-b.built, r.Message)
	}
	return r
}

// readable is a file that all may read, whatever mode it has here.
type readable struct{ fs.FileInfo }

// Mode is that of a delivered wheel.
func (r readable) Mode() fs.FileMode { return 0o644 }

// fit refuses wheels that are not pure, unless they fit the node's Python.
func (o wheelOp) fit(ctx context.Context, t *task, files []string) Result {
	var python *pydist.Python
	for _, file := range files {
		d, err := pydist.Read(file)
		if err != nil {
			return failed("build it again", "%s", visible(err.Error()))
		}
		if d.Pure() {
			continue
		}
		if python == nil {
			python = &pydist.Python{}
			if r := t.work.ask(ctx, t, "tags", map[string]any{}, python); r.Status != OK {
				return r
			}
		}
		if !slices.ContainsFunc(d.Tags, python.Fits) {
			return blocked("build it on a machine like the node, or take a wheel of it for this platform",
				"%s is not pure Python, and does not fit the node: its tags are %s, the node has Python %s (%s)", d.Base(), tagWords(d.Tags),
				visible(python.Version), visible(strings.Join(append(slices.Clone(python.ABIs), python.Platforms[:min(1, len(python.Platforms))]...), ", ")))
		}
	}
	return Result{}
}

func tagWords(tags []pydist.Tag) string {
	var words []string
	for _, t := range tags {
		words = append(words, t.String())
	}
	return strings.Join(words, ", ")
}

// globIn gives what a glob matches, which is relative to deploy.ini's folder.
func globIn(dir, glob string) ([]string, error) {
	if !filepath.IsAbs(glob) {
		glob = filepath.Join(quoteMeta(dir), glob)
	}
	found, err := filepath.Glob(glob)
	if err != nil {
		return nil, fmt.Errorf("glob %s: %w", glob, err)
	}
	return found, nil
}

func nothingMatches(dir, glob string) Result {
	return failed("build the artifact, or correct the glob; it is relative to "+dir, "nothing matches %s", glob)
}

// wheelFolders are the folders in which pip and what building needs are looked
// for: those of the globs, and those of the attribute artifacts. They are absolute.
func wheelFolders(env *Env, globs []string) (folders []string) {
	all := slices.Clone(globs)
	if value, ok := env.Node.Attr("artifacts"); ok {
		if words, err := deploy.Split(value); err == nil {
			all = append(all, words...)
		}
	}
	for _, glob := range all {
		found, err := globIn(env.Dir, glob)
		if err != nil {
			continue
		}
		for _, file := range found {
			if dir := filepath.Dir(file); !slices.Contains(folders, dir) {
				folders = append(folders, dir)
			}
		}
	}
	return folders
}

// newestPip is the newest wheel of pip in the folders; "" when there is none.
func newestPip(folders []string) string {
	var found []*pydist.Dist
	for _, dir := range folders {
		files, _ := filepath.Glob(filepath.Join(quoteMeta(dir), "pip-*.whl"))
		for _, file := range files {
			if d, err := pydist.Read(file); err == nil {
				found = append(found, d)
			}
		}
	}
	if list := pydist.NewPool(found, nil).Named("pip"); len(list) > 0 {
		return list[0].File
	}
	return ""
}

// build is the command that makes the wheels in "$d/wheels", of a folder $d that is there; it is
// to run in deploy.ini's folder.
func (o wheelOp) build(env *Env) string {
	folders := wheelFolders(env, o.globs)
	pip := newestPip(folders)
	if pip == "" {
		pip = "pip-VERSION-py3-none-any.whl"
	}
	line := `umask 022 && python3 -m venv --without-pip "$d/venv" && PIP_CONFIG_FILE=/dev/null PYTHONHASHSEED=0 TZ=UTC LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH=` + buildEpoch +
		` "$d/venv/bin/python" ` + remote.Quote(pip+"/pip") + " wheel --isolated --no-index --no-deps --no-cache-dir"
	for _, dir := range folders {
		line += " " + remote.Quote("--find-links", dir)
	}
	line += ` -w "$d/wheels"`
	for _, glob := range o.globs {
		if !strings.HasPrefix(glob, "/") {
			glob = "./" + glob
		}
		line += " " + globWord(glob)
	}
	return line + ` && chmod 644 "$d"/wheels/*.whl`
}

func (o wheelOp) explain(env *Env, _ *Step) string {
	line := "(cd " + remote.Quote(env.Dir) + ` && d=$(mktemp -d) && trap 'rm -rf "$d"' EXIT && ` + o.build(env)
	if env.Bundle.MountPoint() == bundle.None {
		dir := path.Join(env.Bundle.Dir(), o.to)
		if o.to != "" {
			line += " && " + overSSH(env.Node, remote.Quote("mkdir", "-p", dir))
		}
		return line + " && " + scp(env.Node, "-p") + ` "$d"/wheels/*.whl ` + remote.Quote(remotePrefix(env.Node)+dir+"/") + ")"
	}
	target := path.Join(env.Bundle.MountPoint(), o.to)
	if o.to != "" {
		line += " && " + remote.Quote("mkdir", "-p", target)
	}
	return line + ` && cp -p "$d"/wheels/*.whl ` + remote.Quote(target) + "/)"
}

var errNoPython = errors.New("python3 is not on the PATH of this workstation")

// cut shortens a message.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}
