package ops

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// pythonOp is a function of the application.
type pythonOp struct {
	childStep
	module, function string
}

var (
	moduleName = regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*$`)
	pyHint     = "write MODULE:FUNC, such as hello.devops.migrate:upgrade"
)

func parsePython(host Host, a *arguments) (operation, error) {
	c, err := parseChild(host, a)
	if err != nil {
		return nil, err
	}
	switch len(a.words) {
	case 0:
		return nil, errors.New("needs a function, MODULE:FUNC")
	case 1:
	default:
		return nil, &ArgError{fmt.Sprintf("takes one function only, but got %q, too", a.words[1]), "what the function shall know goes into attributes: it gets them as ncd"}
	}
	module, function, found := strings.Cut(a.words[0], ":")
	switch {
	case !found:
		return nil, &ArgError{fmt.Sprintf("%q names no function", a.words[0]), pyHint}
	case !moduleName.MatchString(module):
		return nil, &ArgError{fmt.Sprintf("%q is no name of a module", module), pyHint}
	case !moduleName.MatchString(function):
		return nil, &ArgError{fmt.Sprintf("%q is no name of a function", function), pyHint}
	}
	return pythonOp{c, module, function}, nil
}

func (o pythonOp) run(ctx context.Context, t *task) Result {
	return o.call(ctx, t, "python", "conc_call", map[string]any{"module": o.module, "function": o.function})
}

// explain: the program ends with 0 for OK, and else with 1 and the status.
func (o pythonOp) explain(env *Env, _ *Step) string {
	name, rest, _ := strings.Cut(o.function, ".")
	if rest != "" {
		rest = "." + rest
	}
	return o.childStep.explain(env, "import inspect, json, sys; from "+o.module+" import "+name+" as f; f = f"+rest+"; "+
		"n = {\"report\": print} if \"report\" in inspect.signature(f).parameters else {}; "+
		"r = f(json.loads(sys.argv[1]), "+o.passwordByHand()+", **n); "+
		"r = r[0] if isinstance(r, tuple) else r; sys.exit(r is not None and r is not True and getattr(r, \"name\", r) != \"OK\" and str(r))")
}
