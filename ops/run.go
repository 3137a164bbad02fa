package ops

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// runOp is a shell command. Several words are joined with spaces, as ssh does
// it: quotes that the shell shall see are put around the whole command.
type runOp struct {
	host    Host
	command string
}

func parseRun(host Host, a *arguments) (operation, error) {
	o := runOp{host, strings.Join(a.words, " ")}
	switch {
	case strings.TrimSpace(o.command) == "":
		return nil, errors.New("needs a command")
	case strings.ContainsRune(o.command, 0):
		return nil, errors.New("the command has a NUL byte")
	}
	return o, nil
}

// envName is the environment variable of an attribute.
func envName(key string) string {
	return "CONC_" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// attributes are a node's attributes as environment variables.
func attributes(env *Env) map[string]string {
	vars := map[string]string{}
	for _, key := range env.Node.Keys() {
		if value, ok := env.Node.Attr(key); ok && !strings.ContainsRune(value, 0) {
			vars[envName(key)] = value
		}
	}
	return vars
}

func (o runOp) run(ctx context.Context, t *task) Result {
	if o.host == Remote {
		return t.work.call(ctx, t, "run", map[string]any{"command": o.command, "env": attributes(t.work.env)})
	}
	env := os.Environ()
	for name, value := range attributes(t.work.env) {
		env = append(env, name+"="+value)
	}
	env = append(env, "CONC_DEPLOY_DIR="+t.work.env.Dir)
	dir, err := o.folder(ctx, t.work.env)
	if err != nil {
		return resultOf(ctx, err)
	}
	return runLocal(ctx, t, o.command, dir, env)
}

// folder is where a local command runs: in the mounted bundle, or in
// deploy.ini's folder when it is not mounted. $CONC_DEPLOY_DIR is always the latter.
func (o runOp) folder(ctx context.Context, env *Env) (string, error) {
	mounted, err := env.mounted(ctx)
	if mounted && env.Bundle.MountPoint() != bundle.None {
		return env.Bundle.MountPoint(), nil
	}
	return env.Dir, err
}

func (o runOp) explain(env *Env, _ *Step) string {
	vars := ""
	for _, key := range env.Node.Keys() {
		name := envName(key)
		if value, ok := env.Node.Attr(key); ok && strings.Contains(o.command, name) {
			vars += "export " + name + "=" + remote.Quote(value) + "; "
		}
	}
	if o.host == Local {
		dir := env.Bundle.MountPoint()
		if dir == bundle.None {
			dir = env.Dir
		}
		if strings.Contains(o.command, "CONC_DEPLOY_DIR") {
			vars += "export CONC_DEPLOY_DIR=" + remote.Quote(env.Dir) + "; "
		}
		return "(cd " + remote.Quote(filepath.Clean(dir)) + " && " + vars + o.command + ")"
	}
	if venv := env.Node.Venv(); venv != "" {
		vars = "PATH=" + homeWord("~/"+venv+"/bin") + ":$PATH; " + vars
	}
	return inBundle(env, vars+o.command)
}
