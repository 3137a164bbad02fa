package ops

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"bundlefs/internal/remote"
)

//go:embed conc_child.py conc_call.py conc_unittest.py
var childPrograms embed.FS

// childBoot starts the child: it reads conc_child.py, of as many bytes as its
// argument says, from standard input.
const childBoot = `import sys, types; m = types.ModuleType("conc_child"); sys.modules["conc_child"] = m; ` +
	`exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), "conc_child.py", "exec"), m.__dict__); m.main()`

// childOptions are those of steps that run the application's own Python.
var childOptions = map[string]bool{"--sudo": false, "--path": true, "--from-bundle": false}

// childStep is what python and test have in common: the interpreter and what it finds.
type childStep struct {
	host   Host
	sudo   bool
	bundle bool     // --from-bundle: the node's python, with the bundle and its wheels on its path
	path   []string // first on its path, relative to where it runs
}

func parseChild(host Host, a *arguments) (childStep, error) {
	c := childStep{host: host, sudo: a.has("--sudo"), bundle: a.has("--from-bundle")}
	if c.bundle && host == Local {
		return c, &ArgError{"--from-bundle is for the remote host", "on the workstation give --path DIR, a folder relative to deploy.ini's"}
	}
	for _, o := range a.options {
		if o.name != "--path" {
			continue
		}
		dir, err := inside("--path", o.value)
		if err != nil {
			return c, err
		}
		c.path = append(c.path, dir)
	}
	return c, nil
}

func (c childStep) needsSudo() bool { return c.sudo }

// order is what the child is told, without what tells its op.
func (c childStep) order(ctx context.Context, t *task) (map[string]any, error) {
	ncd := map[string]string{}
	for _, key := range t.work.env.Node.Keys() {
		if value, ok := t.work.env.Node.Attr(key); ok {
			ncd[key] = value
		}
	}
	order := map[string]any{"ncd": ncd, "path": append([]string{}, c.path...), "wheels": c.bundle, "sudo": nil, "ok_codes": t.step.OKCodes}
	if c.host == Local {
		order["path"] = append(slices.Clone(c.path), ".")
	}
	if c.sudo && c.host == Local { // the agent has it of what proved it
		password, err := t.work.env.SudoPassword(ctx)
		if err != nil {
			return nil, fmt.Errorf("password for sudo: %w", err)
		}
		if password != nil {
			order["sudo"] = password // in base64, as JSON has bytes
		}
	}
	return order, nil
}

// call runs one of the child's programs; op is the step's part of the agent,
// and order has what the program wants to know beside what all do.
func (c childStep) call(ctx context.Context, t *task, op, program string, more map[string]any) Result {
	if c.host == Remote && !c.bundle {
		if r, ok := needVenv(t); !ok {
			return r
		}
	}
	order, err := c.order(ctx, t)
	if err != nil {
		return resultOf(ctx, err)
	}
	source, err := childPrograms.ReadFile("conc_child.py")
	if err != nil {
		return resultOf(ctx, fmt.Errorf("read program: %w", err))
	}
	text, err := childPrograms.ReadFile(program + ".py")
	if err != nil {
		return resultOf(ctx, fmt.Errorf("read program: %w", err))
	}
	order["main"], order["modules"] = program, [][2]string{{program, string(text)}}
	for key, value := range more {
		order[key] = value
	}
	if c.host == Remote {
		return t.work.call(ctx, t, op, map[string]any{"boot": childBoot, "child": string(source), "order": order, "sudo": c.sudo})
	}
	return c.local(ctx, t, source, order)
}

// childEvent is what the child tells; see conc_child.py.
type childEvent struct {
	Progress *struct {
		What  string  `json:"what"`
		Done  float64 `json:"done"`
		Total float64 `json:"total"`
	} `json:"progress"`
	Running *string    `json:"running"`
	Test    *childTest `json:"test"`
	End     *struct {
		Status  Status `json:"status"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
		Trace   string `json:"trace"`
		Code    *int   `json:"code"`
	} `json:"end"`
}

// local runs the child with the workstation's python3, in deploy.ini's folder.
func (c childStep) local(ctx context.Context, t *task, source []byte, order map[string]any) Result {
	python, err := exec.LookPath("python3")
	if err != nil {
		return blocked("install python3 here", "there is no python3 on the workstation: %v", err)
	}
	order["fd"] = 3
	input, err := json.Marshal(order)
	if err != nil {
		return resultOf(ctx, fmt.Errorf("encode order: %w", err))
	}
	defer clear(input)
	input = append(bytes.Clone(source), asciiJSON(input)...)
	defer clear(input)
	var last childEvent // its End and Running
	state, err := t.runLocal(ctx, localCommand{
		argv: []string{python, "-u", "-c", childBoot, strconv.Itoa(len(source))}, dir: t.work.env.Dir, env: os.Environ(),
		stdin: input,
		events: func(line []byte) {
			var e childEvent
			if json.Unmarshal(line, &e) != nil {
				return // of a child that has crashed, or of something else that writes there
			}
			switch {
			case e.Progress != nil:
				t.progress(Progress{What: visible(e.Progress.What), Done: int64(e.Progress.Done), Total: int64(e.Progress.Total)})
			case e.Test != nil:
				t.test(e.Test)
			case e.Running != nil:
				last.Running = e.Running
			case e.End != nil:
				last.End = e.End
			}
		},
	})
	if state == nil {
		return resultOf(ctx, err)
	}
	how := fmt.Sprintf("the interpreter ended with exit status %d", state.ExitCode())
	if ws, isUnix := state.Sys().(syscall.WaitStatus); isUnix && ws.Signaled() {
		how = "the interpreter was killed by " + signalName(ws.Signal())
	}
	end := last.End
	switch {
	case end == nil && last.Running != nil && *last.Running != "":
		return Result{Status: Error, Message: how + " in " + visible(*last.Running), ExitCode: -1}
	case end == nil:
		return Result{Status: Error, Message: how + " before the code had returned", ExitCode: -1}
	case end.Status == OK && !state.Success():
		return Result{Status: Error, Message: how + " after the code had returned", ExitCode: -1}
	}
	r := Result{Status: end.Status, Message: visible(end.Message), Hint: visible(end.Hint), ExitCode: -1}
	if end.Code != nil {
		r.ExitCode = *end.Code
	}
	if end.Trace != "" {
		t.trace(end.Trace)
	}
	return r
}

// explain gives the command that runs a program with the attributes as JSON in
// its first argument, and more arguments. The program takes the password from
// the terminal.
func (c childStep) explain(env *Env, program string, args ...string) string {
	ncd := map[string]string{}
	for _, key := range env.Node.Keys() {
		if value, ok := env.Node.Attr(key); ok {
			ncd[key] = value
		}
	}
	text, err := json.Marshal(ncd)
	if err != nil { // strings always can be
		text = []byte("{}")
	}
	words := remote.Quote(append([]string{"-c", program, string(text)}, args...)...)
	path := slices.Clone(c.path)
	if c.host == Local {
		line := "python3 " + words
		if len(path) > 0 {
			line = "PYTHONPATH=" + remote.Quote(strings.Join(path, ":")) + `"${PYTHONPATH:+:$PYTHONPATH}" ` + line
		}
		return "(cd " + remote.Quote(env.Dir) + " && " + line + ")"
	}
	var line string
	switch {
	case c.bundle:
		line = `PYTHONPATH=` + remote.Quote(strings.Join(append(path, ""), ":")) + `$(printf '%s:' . *.whl *.zip) ` + homeWord(env.Node.Python()) + " " + words
	case len(path) > 0:
		line = "PYTHONPATH=" + remote.Quote(strings.Join(path, ":")) + " " + venvPython(env) + " " + words
	default:
		line = venvPython(env) + " -I " + words
	}
	line = inBundle(env, line)
	if c.sudo {
		line = strings.Replace(line, "ssh ", "ssh -t ", 1)
	}
	return line
}

// passwordByHand is an expression for sudoPass in a program that is run by hand.
func (c childStep) passwordByHand() string {
	if c.sudo {
		return `__import__("getpass").getpass("password for sudo: ")`
	}
	return "None"
}
