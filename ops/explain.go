package ops

import (
	"strconv"
	"strings"

	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
)

// Explain gives the command that does the step by hand: for a step on the node
// a line with ssh, else a local one. It needs Node, Bundle and Dir of env only.
//
// Of the attributes that a run step has in its environment, it names those that
// the command mentions.
func Explain(s Step, env Env) string { return s.op.explain(&env, &s) }

// overSSH gives the ssh command that runs a line of shell on the node.
func overSSH(n *deploy.Node, line string) string {
	args := []string{"ssh"}
	if !n.UseSSHConfig() {
		args = append(args, "-F", "none")
	}
	if n.Port() != 0 {
		args = append(args, "-p", strconv.Itoa(n.Port()))
	}
	if key, err := n.Key(); err == nil && key != "" {
		args = append(args, "-i", key)
	}
	if n.Jump() != "" {
		args = append(args, "-J", n.Jump())
	}
	host := n.Host()
	if n.User() != "" {
		host = n.User() + "@" + host
	}
	return remote.Quote(append(args, host, line)...)
}

// scp gives the beginning of an scp command with what leads to the node.
func scp(n *deploy.Node, options ...string) string {
	args := append([]string{"scp"}, options...)
	if !n.UseSSHConfig() {
		args = append(args, "-F", "none")
	}
	if n.Port() != 0 {
		args = append(args, "-P", strconv.Itoa(n.Port()))
	}
	if key, err := n.Key(); err == nil && key != "" {
		args = append(args, "-i", key)
	}
	if n.Jump() != "" {
		args = append(args, "-J", n.Jump())
	}
	return remote.Quote(args...)
}

// inBundle gives the ssh command that runs a line of shell in the bundle.
func inBundle(env *Env, line string) string {
	return overSSH(env.Node, "cd "+remote.Quote(env.Bundle.Dir())+" && "+line)
}

// homeWord quotes a path that is taken from where the shell is, or from the home with "~/".
func homeWord(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && rest != "" {
		return "~/" + remote.Quote(rest)
	}
	return remote.Quote(path)
}

// venvPython is the venv's interpreter, from anywhere on the node.
func venvPython(env *Env) string { return homeWord("~/" + env.Node.Venv() + "/bin/python") }

// globWord quotes all of a glob but what a shell shall expand.
func globWord(glob string) string {
	var b strings.Builder
	for glob != "" {
		i := strings.IndexAny(glob, "*?[]")
		switch i {
		case 0:
			b.WriteByte(glob[0])
			glob = glob[1:]
			continue
		case -1:
			i = len(glob)
		}
		b.WriteString(remote.Quote(glob[:i]))
		glob = glob[i:]
	}
	return b.String()
}

// remotePrefix is [user@]host: as scp and bundlefs take it.
func remotePrefix(n *deploy.Node) string {
	host := n.Host()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if n.User() != "" {
		host = n.User() + "@" + host
	}
	return host + ":"
}
