package ops

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bundlefs/internal/remote"
)

var pipOptions = map[string]bool{
	"-r": true, "-c": true, "--no-deps": false, "--upgrade": false, "--force-reinstall": false, "--no-compile": false,
}

// pipOp installs from the bundle in one run of pip, never from the internet.
type pipOp struct {
	targets []pipTarget
	options []string
}

// pipTarget: Kind is "glob", "requirement", "-r" or "-c".
type pipTarget struct{ kind, value string }

var (
	// requirement is a project name with extras, versions or a marker; see PEP 508.
	requirement = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\s*(\[[A-Za-z0-9._, -]*\])?\s*((===|[=!~<>]=|[<>])[^/]*)?(;.*)?$`)
	artifact    = regexp.MustCompile(`\.(whl|zip|tar|tgz|tar\.(gz|bz2|xz))$`)
)

func parsePip(_ Host, a *arguments) (operation, error) {
	o := pipOp{}
	for _, word := range a.words {
		target := pipTarget{"glob", word}
		switch {
		case strings.Contains(word, "://"), strings.Contains(word, "@"):
			return nil, &ArgError{fmt.Sprintf("%q names a place to fetch from", word), "pip installs from the bundle only: deliver the artifact with a copy step and give its name"}
		case !artifact.MatchString(word) && requirement.MatchString(word):
			target.kind = "requirement"
		default:
			glob, err := inside("glob", word)
			if err != nil {
				return nil, err
			}
			target.value = glob
		}
		o.targets = append(o.targets, target)
	}
	for _, opt := range a.options {
		switch {
		case opt.name == "-r" || opt.name == "-c":
			file, err := inside("file", opt.value)
			if err != nil {
				return nil, err
			}
			o.targets = append(o.targets, pipTarget{opt.name, file})
		case !commonOptions[opt.name] && !slices.Contains(o.options, opt.name):
			o.options = append(o.options, opt.name)
		}
	}
	if !slices.ContainsFunc(o.targets, func(t pipTarget) bool { return t.kind != "-c" }) {
		return nil, errors.New("needs a glob, a requirement or -r FILE")
	}
	return o, nil
}

func (o pipOp) run(ctx context.Context, t *task) Result {
	if r, ok := needVenv(t); !ok {
		return r
	}
	targets := make([][2]string, len(o.targets))
	for i, target := range o.targets {
		targets[i] = [2]string{target.kind, target.value}
	}
	options := append([]string{}, o.options...) // not nil, which would be null in JSON
	return t.work.call(ctx, t, "pip", map[string]any{"targets": targets, "options": options, "verbose": t.work.env.Verbose})
}

// explain takes the pip that the step takes: the newest wheel's that runs with the venv's
// Python, else the venv's own, else ensurepip's.
func (o pipOp) explain(env *Env, _ *Step) string {
	python := venvPython(env)
	find := `pip=; for p in $(ls -vr pip-*.whl 2>/dev/null); do ` + python + ` "./$p/pip" --version >/dev/null 2>&1 && pip=./$p/pip && break; done; ` +
		`[ "$pip" ] || ` + python + ` -m pip --version >/dev/null 2>&1 || ` + python + ` -m ensurepip --default-pip || exit; `
	line := find + "PIP_CONFIG_FILE=/dev/null " + python + ` ${pip:--m pip} install --isolated --no-index --find-links . --no-cache-dir`
	for _, opt := range o.options {
		line += " " + opt
	}
	for _, target := range o.targets {
		switch target.kind {
		case "glob":
			line += " ./" + globWord(target.value)
		case "requirement":
			line += " " + remote.Quote(target.value)
		default:
			line += " " + target.kind + " " + remote.Quote(target.value)
		}
	}
	return inBundle(env, line)
}
