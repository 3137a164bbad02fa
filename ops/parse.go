package ops

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"bundlefs/internal/deploy"
	"bundlefs/internal/nearest"
)

// operation is an op with its arguments.
type operation interface {
	// run does the step. The task takes output and progress.
	run(ctx context.Context, t *task) Result
	// explain gives the command by hand.
	explain(env *Env, s *Step) string
}

// kind is what there is to know of an op before its arguments.
type kind struct {
	hosts []Host
	// parse gives the operation; it finds the options in a and takes the rest from a.words.
	parse func(host Host, a *arguments) (operation, error)
	// raw: the words are a command with options of its own, which begin where the first word is.
	raw bool
	// options maps the op's own options to whether they take a value.
	options map[string]bool
	usage   string
}

var both = []Host{Local, Remote}

// kinds are all ops by their names.
var kinds = map[string]kind{
	"open":    {hosts: both, parse: parseOpen, usage: "open"},
	"close":   {hosts: both, parse: parseClose, usage: "close"},
	"mount":   {hosts: []Host{Local}, parse: parseMount, usage: "mount"},
	"unmount": {hosts: []Host{Local}, parse: parseUnmount, usage: "unmount"},
	"sync":    {hosts: []Host{Local}, parse: parseSync, usage: "sync"},
	"copy":    {hosts: []Host{Local}, parse: parseCopy, options: map[string]bool{"--to": true}, usage: "copy GLOB… [--to DIR]"},
	"wheel":   {hosts: []Host{Local}, parse: parseWheel, options: map[string]bool{"--to": true}, usage: "wheel GLOB… [--to DIR]"},
	"verify":  {hosts: []Host{Remote}, parse: parseVerify, options: map[string]bool{"--strict": false}, usage: "verify [--strict]"},
	"venv": {hosts: []Host{Remote}, parse: parseVenv, options: map[string]bool{"--with-pip": false, "--keep": false, "--clear": false},
		usage: "venv [--with-pip] [--keep | --clear]"},
	"untar": {hosts: []Host{Remote}, parse: parseUntar, usage: "untar GLOB"},
	"setup": {hosts: []Host{Remote}, parse: parseSetup, usage: "setup GLOB"},
	"pip": {hosts: []Host{Remote}, parse: parsePip, options: pipOptions,
		usage: "pip GLOB|REQUIREMENT… [-r FILE] [-c FILE] [--no-deps] [--upgrade] [--force-reinstall] [--no-compile]"},
	"python": {hosts: both, parse: parsePython, options: childOptions, usage: "python [--sudo] [--path DIR] [--from-bundle] MODULE:FUNC"},
	"test":   {hosts: both, parse: parseTest, options: childOptions, usage: "test [--sudo] [--path DIR] [--from-bundle] MODULE…"},
	"link":   {hosts: []Host{Remote}, parse: parseLink, usage: "link PATH TARGET"},
	"run":    {hosts: both, parse: parseRun, raw: true, usage: "run [--timeout D] [--ok-codes N,…] CMD…"},
	"sudo": {hosts: []Host{Remote}, parse: parseSudo, raw: true, options: map[string]bool{"--no-password": false},
		usage: "sudo [--no-password] [--timeout D] [--ok-codes N,…] CMD ARGUMENT…"},
	"stop": {hosts: both, parse: parseStop, raw: true, usage: "stop [MESSAGE]"},
}

// ArgError says what is wrong with a step.
type ArgError struct{ msg, hint string }

func (e *ArgError) Error() string { return e.msg }

// Hint says how the step is written.
func (e *ArgError) Hint() string { return e.hint }

// Check tells whether the step is one that can be run: it is the
// deploy.StepCheck of this package. The error is an *ArgError.
func Check(s deploy.Step) error {
	_, err := Parse(s)
	return err
}

// ParseAll is Parse for a whole job list.
func ParseAll(list []deploy.Step) ([]Step, error) {
	steps := make([]Step, 0, len(list))
	for _, d := range list {
		s, err := Parse(d)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: step %s: %w", d.File, d.Line, d.Name, err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// Parse validates a step. The error is an *ArgError.
func Parse(d deploy.Step) (Step, error) {
	k, ok := kinds[d.Op]
	if !ok {
		return Step{}, unknownOp(d.Op)
	}
	if !slices.Contains(k.hosts, Host(d.Host)) {
		if d.Host != deploy.Local && d.Host != deploy.Remote {
			return Step{}, &ArgError{fmt.Sprintf("unknown host %q", d.Host), "a step is: NAME = local|remote OP ARGUMENT…"}
		}
		return Step{}, &ArgError{fmt.Sprintf("%s does not run on the %s host", d.Op, d.Host), fmt.Sprintf("write: %s %s", k.hosts[0], k.usage)}
	}
	s := Step{
		List: d.List, Name: d.Name, Host: Host(d.Host), Op: d.Op, Args: d.Args, File: d.File, Line: d.Line,
		OKCodes: []int{0},
	}
	a, err := k.arguments(d.Args)
	if err == nil {
		err = a.common(&s)
	}
	if err == nil {
		s.op, err = k.parse(s.Host, a)
	}
	if err != nil {
		if ae, ok := err.(*ArgError); ok && ae.hint != "" {
			return Step{}, &ArgError{d.Op + ": " + ae.msg, ae.hint}
		}
		return Step{}, &ArgError{d.Op + ": " + err.Error(), "write: " + d.Host + " " + k.usage + "; every step also takes --timeout D and --ok-codes N,…"}
	}
	return s, nil
}

func unknownOp(op string) error {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	hint := "the ops are: " + strings.Join(names, ", ")
	if n := nearest.Word(op, names); n != "" {
		hint = fmt.Sprintf("did you mean %q? ", n) + hint
	}
	return &ArgError{fmt.Sprintf("unknown op %q", op), hint}
}

// arguments are a step's arguments with the options taken out.
type arguments struct {
	words   []string
	options []option // in their order
}

type option struct{ name, value string }

var commonOptions = map[string]bool{"--timeout": true, "--ok-codes": true}

// arguments splits options from words. "--" ends the options.
func (k kind) arguments(args []string) (*arguments, error) {
	a := &arguments{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			a.words = append(a.words, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if k.raw {
				a.words = args[i:]
				break
			}
			a.words = append(a.words, arg)
			continue
		}
		name, value, inline := strings.Cut(arg, "=")
		takes, known := k.options[name]
		if !known {
			takes, known = commonOptions[name]
		}
		switch {
		case !known:
			return nil, k.unknownOption(name)
		case inline && !takes:
			return nil, fmt.Errorf("option %s takes no value", name)
		case takes && !inline:
			if i++; i == len(args) {
				return nil, fmt.Errorf("option %s needs a value", name)
			}
			value = args[i]
		}
		a.options = append(a.options, option{name, value})
	}
	return a, nil
}

func (k kind) unknownOption(name string) error {
	names := []string{}
	for _, m := range []map[string]bool{k.options, commonOptions} {
		for n := range m {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	msg := fmt.Sprintf("unknown option %s", name)
	if n := nearest.Word(name, names); n != "" {
		return &ArgError{msg, fmt.Sprintf("did you mean %s?", n)}
	}
	return &ArgError{msg, "the options are: " + strings.Join(names, ", ")}
}

// common takes the options of every step.
func (a *arguments) common(s *Step) error {
	for _, o := range a.options {
		switch o.name {
		case "--timeout":
			d, err := parseTimeout(o.value)
			if err != nil {
				return err
			}
			s.Timeout = d
		case "--ok-codes":
			s.OKCodes = nil
			for word := range strings.SplitSeq(o.value, ",") {
				code, err := strconv.Atoi(strings.TrimSpace(word))
				if err != nil || code < 0 || code > 255 {
					return &ArgError{fmt.Sprintf("--ok-codes %q: %q is no exit code", o.value, word), "exit codes are numbers from 0 to 255, with commas between them: --ok-codes 0,2"}
				}
				s.OKCodes = append(s.OKCodes, code)
			}
		}
	}
	return nil
}

// parseTimeout takes a Go duration, or a number of seconds.
func parseTimeout(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d <= 0 {
		return 0, &ArgError{fmt.Sprintf("--timeout %q is no duration above 0", text), "write it as 90, 90s, 1m30s or 2h"}
	}
	return d, nil
}

// has tells whether an option was given.
func (a *arguments) has(name string) bool {
	return slices.ContainsFunc(a.options, func(o option) bool { return o.name == name })
}

// value is the last value given to an option.
func (a *arguments) value(name string) string {
	value := ""
	for _, o := range a.options {
		if o.name == name {
			value = o.value
		}
	}
	return value
}

// none refuses words where there can be none.
func (a *arguments) none() error {
	if len(a.words) > 0 {
		return fmt.Errorf("takes no argument, but got %q", a.words[0])
	}
	return nil
}

// inside checks a path or glob in the bundle and gives its plain form.
func inside(what, p string) (string, error) {
	switch {
	case p == "":
		return "", &ArgError{what + " is empty", "give a path in the bundle"}
	case strings.HasPrefix(p, "/"), strings.HasPrefix(p, "~"):
		return "", &ArgError{fmt.Sprintf("%s %q must be relative to the bundle", what, p), "give a path in the bundle, such as dist or hello-*.whl"}
	case strings.ContainsAny(p, "\x00\n\r"):
		return "", &ArgError{fmt.Sprintf("%s %q has a control character", what, p), "give a path in the bundle"}
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "", &ArgError{fmt.Sprintf("%s %q must not contain ..", what, p), "give a path in the bundle, such as dist or hello-*.whl"}
	}
	return path.Clean(p), nil
}
