package ops

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bundlefs/internal/remote"
)

// linkOp makes a symbolic link on the node, or switches it in one moment.
type linkOp struct{ link, target string } // below the home, clean

func parseLink(_ Host, a *arguments) (operation, error) {
	if len(a.words) != 2 {
		return nil, errors.New("needs the path of the link and its target")
	}
	var o linkOp
	for i, to := range []*string{&o.link, &o.target} {
		what, word := [2]string{"path", "target"}[i], a.words[i]
		switch {
		case word == "" || path.Clean(word) == ".":
			return nil, &ArgError{fmt.Sprintf("%s %q is not below the home", what, word), "give a path relative to the home of the node's user"}
		case strings.HasPrefix(word, "/"), strings.HasPrefix(word, "~"):
			return nil, &ArgError{fmt.Sprintf("%s %q must be relative to the home", what, word), "give a path such as current or venvs/hello-1.4.2"}
		case slices.Contains(strings.Split(word, "/"), ".."):
			return nil, &ArgError{fmt.Sprintf("%s %q must not contain ..", what, word), "give a path relative to the home of the node's user"}
		case strings.ContainsAny(word, "\x00\n\r"):
			return nil, &ArgError{fmt.Sprintf("%s %q has a control character", what, word), "give a path such as current or venvs/hello-1.4.2"}
		}
		*to = path.Clean(word)
	}
	if o.target == o.link || strings.HasPrefix(o.target, o.link+"/") {
		return nil, &ArgError{fmt.Sprintf("%s would point to itself", o.link), "the path of the link comes first, then its target"}
	}
	return o, nil
}

func (o linkOp) run(ctx context.Context, t *task) Result {
	return t.work.call(ctx, t, "link", map[string]any{"link": o.link, "target": o.target})
}

func (o linkOp) explain(env *Env, _ *Step) string {
	dir, name := path.Split(o.link)
	text, err := filepath.Rel("/"+dir, "/"+o.target)
	if err != nil { // both are absolute
		text = o.target
	}
	dir = path.Clean(dir)
	next := remote.Quote(dir + "/" + newName(name))
	at := remote.Quote(dir + "/" + name)
	line := ""
	if dir != "." {
		line = remote.Quote("mkdir", "-p", dir) + " && "
	}
	return overSSH(env.Node, "test -e "+remote.Quote(o.target)+" && "+line+"{ test -L "+at+" || test ! -e "+at+"; } && "+
		"ln -sfn "+remote.Quote(text)+" "+next+" && mv -T "+next+" "+at)
}
