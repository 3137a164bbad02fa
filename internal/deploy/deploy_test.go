package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// example is the file of the design, the format's reference.
const example = `[DEFAULT]                          ; attributes of every node
admin     = deploy                 ; user on the node
sshd.port = 22
op_key    = ops                    ; ~/.ssh/id_ed25519-ops, id_ecdsa-ops or id_rsa-ops; or a path
release   = 1.4.2
bundle    = bundle-hello           ; under the user's home on the node
venv      = venvs/hello-%(release)s
python    = python3

[group:web]
nodes   = node1 node2
workers = 4

[node:node1]
sshd.ip = 192.0.2.11               ; IPv4, IPv6, host name, or an alias of ~/.ssh/config

[node:node2]
sshd.ip = 192.0.2.12
workers = 8                        ; a node beats its groups, a group beats DEFAULT

[jobs:install]                     ; NAME = HOST OP ARGUMENT…, in this order
deliver = local  copy dist/*.whl vendor/*.whl
venv    = remote venv
pip     = remote pip hello-*.whl
migrate = remote python hello.devops.migrate:upgrade
check   = remote test hello.devops.nodetests
reload  = remote sudo --timeout 30s systemctl reload hello
`

// setHome gives the test a home folder of its own.
func setHome(t testing.TB) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	return home
}

func mustParse(t testing.TB, text string) *File {
	t.Helper()
	f, err := Parse("deploy.ini", []byte(text), nil)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return f
}

func mustNode(t testing.TB, f *File, name string) *Node {
	t.Helper()
	n, err := f.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExample(t *testing.T) {
	home := setHome(t)
	path := filepath.Join(t.TempDir(), "deploy.ini")
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	var checked []string
	f, err := Load(path, func(s Step) error {
		checked = append(checked, s.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.Path() != path {
		t.Errorf("Path() = %q", f.Path())
	}
	if len(checked) != 12 {
		t.Errorf("steps checked: %v, want 6 for each of 2 nodes", checked)
	}
	if got, want := f.Groups(), []Group{{"web", []string{"node1", "node2"}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("Groups() = %v, want %v", got, want)
	}
	if got := f.JobLists(); !slices.Equal(got, []string{"install"}) {
		t.Errorf("JobLists() = %v", got)
	}
	n := mustNode(t, f, "node1")
	got := []any{n.Name, n.Host(), n.User(), n.Port(), n.Jump(), n.UseSSHConfig(), n.Bundle(), n.Venv(), n.Python(), n.MountPoint(), n.Groups()}
	want := []any{"node1", "192.0.2.11", "deploy", 22, "", true, "bundle-hello", "venvs/hello-1.4.2", "python3", home + "/bundle-hello/node1", []string{"web"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("node1 is\n%v, want\n%v", got, want)
	}
	if got, want := n.Keys(), []string{"admin", "bundle", "mount", "name", "op_key", "python", "release", "sshd.ip", "sshd.port", "venv", "workers"}; !slices.Equal(got, want) {
		t.Errorf("Keys() = %v, want %v", got, want)
	}
	for key, want := range map[string]Origin{
		"admin":   {path, 2, "DEFAULT", "admin"},
		"bundle":  {path, 6, "DEFAULT", "bundle"},
		"workers": {path, 12, "group:web", "workers"},
		"sshd.ip": {path, 15, "node:node1", "sshd.ip"},
		"name":    {path, 14, "node:node1", "name"},
		"mount":   {"", 0, "built-in", "mount"},
		"absent":  {},
	} {
		if got := n.Origin(key); got != want {
			t.Errorf("Origin(%s) = %v, want %v", key, got, want)
		}
	}
	for node, want := range map[string]string{"node1": "4", "node2": "8"} {
		if got, ok := mustNode(t, f, node).Attr("workers"); !ok || got != want {
			t.Errorf("%s: workers = %q, %v, want %q", node, got, ok, want)
		}
	}
	steps, err := n.Jobs("install")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := steps[5], (Step{"install", "reload", Remote, "sudo", []string{"--timeout", "30s", "systemctl", "reload", "hello"}, path, 27}); !reflect.DeepEqual(got, want) {
		t.Errorf("step %+v, want %+v", got, want)
	}
	if got := f.Nodes(); len(got) != 2 || got[0] != n || got[1].Name != "node2" {
		t.Errorf("Nodes() = %v", got)
	}
}

func TestMerging(t *testing.T) {
	setHome(t)
	f := mustParse(t, `[node:b]
own = node
settled = mine
[DEFAULT]
bundle = b-%(name)s
own = default
both = default
[group:one]
nodes = a b
own = one
both = group
same = 1
settled = 1
[group:two]
nodes =
    b
    ; not a
    c
same = 1
settled = 2
[node:a]
both = %(own)s, %%(own)s, 100%%
[node:c]
`)
	for _, c := range []struct{ node, key, want string }{
		{"a", "own", "one"}, {"a", "both", "one, %(own)s, 100%"}, {"a", "same", "1"}, {"a", "bundle", "b-a"}, {"a", "settled", "1"},
		{"b", "own", "node"}, {"b", "both", "group"}, {"b", "same", "1"}, {"b", "settled", "mine"},
		{"c", "own", "default"}, {"c", "both", "default"}, {"c", "settled", "2"}, {"c", "name", "c"},
	} {
		if got, _ := mustNode(t, f, c.node).Attr(c.key); got != c.want {
			t.Errorf("%s: %s = %q, want %q", c.node, c.key, got, c.want)
		}
	}
	if got := mustNode(t, f, "b").Groups(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("groups of b: %v", got)
	}
	if _, ok := mustNode(t, f, "c").Attr("nodes"); ok {
		t.Error("a group's nodes are no attribute of its nodes")
	}
}

func TestSelect(t *testing.T) {
	setHome(t)
	f := mustParse(t, "[DEFAULT]\nbundle=b\n[node:n1]\n[node:n2]\n[node:n3]\n[group:g]\nnodes=n3 n1\n")
	for _, c := range []struct{ names, want string }{
		{"", ""}, {"n2", "n2"}, {"@all", "n1 n2 n3"}, {"@g", "n3 n1"}, {"n1 @g n2 @all", "n1 n3 n2"}, {"n2 n2", "n2"},
	} {
		nodes, err := f.Select(strings.Fields(c.names)...)
		if err != nil {
			t.Errorf("Select(%s): %v", c.names, err)
		}
		var got []string
		for _, n := range nodes {
			got = append(got, n.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("Select(%s) = %v, want %s", c.names, got, c.want)
		}
	}
	for _, c := range []struct{ name, msg, hint string }{
		{"n4", `deploy.ini: no node "n4"`, `did you mean "n1"?`},
		{"g", `deploy.ini: no node "g"`, "it is a group: write @g"},
		{"elsewhere", `deploy.ini: no node "elsewhere"`, "the nodes are: n1, n2, n3"},
		{"@al", `deploy.ini: no group "al"`, `did you mean "all"?`},
		{"@elsewhere", `deploy.ini: no group "elsewhere"`, "the groups are: all, g"},
	} {
		_, err := f.Select(c.name)
		var e *Error
		if !errors.As(err, &e) || err.Error() != c.msg || e.Hint != c.hint {
			t.Errorf("Select(%s): %v, hint %q, want %s, %s", c.name, err, hintOf(err), c.msg, c.hint)
		}
	}
}

func TestJobs(t *testing.T) {
	setHome(t)
	f := mustParse(t, `[DEFAULT]
bundle = b
venv = v
title = two  words
[node:n]
[node:m]
title = "
[jobs:all]
a = local run echo '%(title)s' %(title)s x%(title)sy "a ; b" c\ d '' # gone
b.2 = remote run sh -c '
    # kept, it is quoted
    date +%%F' ; gone
    --timeout 5s
c = local run a;b c#d \; e
`)
	steps, err := mustNode(t, f, "n").Jobs("all")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{
		{"echo", "two  words", "two  words", "xtwo  wordsy", "a ; b", "c d", ""},
		{"sh", "-c", "\n# kept, it is quoted\ndate +%F", "--timeout", "5s"},
		{"a;b", "c#d", ";", "e"},
	} {
		if !slices.Equal(steps[i].Args, want) {
			t.Errorf("step %d: %q, want %q", i, steps[i].Args, want)
		}
	}
	if s := steps[1]; s.Name != "b.2" || s.Host != Remote || s.Op != "run" || s.Line != 10 || s.File != "deploy.ini" || s.List != "all" {
		t.Errorf("step %+v", s)
	}
	steps, err = mustNode(t, f, "m").Jobs("all")
	if err != nil || steps[0].Args[1] != `"` {
		t.Errorf("a quote in a value is no quote of the line: %q, %v", steps[0].Args, err)
	}
	if _, err := mustNode(t, f, "n").Jobs("al"); err == nil || hintOf(err) != `did you mean "all"?` {
		t.Errorf("Jobs(al): %v, %s", err, hintOf(err))
	}
}

func TestDefaultJobs(t *testing.T) {
	setHome(t)
	f := mustParse(t, `[DEFAULT]
bundle = b
[node:n]
venv = v
artifacts = dist/*.whl "with blank/%(name)s.whl"
product = hello extra
[node:bare]
[jobs:other]
x = local stop
`)
	if got := f.JobLists(); !slices.Equal(got, []string{"install", "other"}) {
		t.Errorf("JobLists() = %v", got)
	}
	steps, err := mustNode(t, f, "n").Jobs(Install)
	want := []Step{
		{Install, "deliver", Local, "copy", []string{"dist/*.whl", "with blank/n.whl"}, "deploy.ini", 5},
		{Install, "venv", Remote, "venv", nil, "deploy.ini", 4},
		{Install, "pip", Remote, "pip", []string{"hello", "extra"}, "deploy.ini", 6},
	}
	if err != nil || !reflect.DeepEqual(steps, want) {
		t.Errorf("default list:\n%+v, %v, want\n%+v", steps, err, want)
	}
	_, err = mustNode(t, f, "bare").Jobs(Install)
	const msg = "deploy.ini:7: [node:bare] artifacts: missing, and the default job list needs it\n" +
		"deploy.ini:7: [node:bare] venv: missing, and the default job list needs it\n" +
		"deploy.ini:7: [node:bare] product: missing, and the default job list needs it"
	if err == nil || err.Error() != msg {
		t.Errorf("default list of a node without the attributes: %v, want\n%s", err, msg)
	}
}

type checkError struct{ hint string }

func (e *checkError) Error() string { return "op refused" }
func (e *checkError) Hint() string  { return e.hint }

func TestStepCheck(t *testing.T) {
	setHome(t)
	text := "[DEFAULT]\nbundle=b\n[node:n1]\n[node:n2]\n[node:n3]\n[jobs:j]\nx = local run %(name)s\ny = local nope\n"
	_, err := Parse("deploy.ini", []byte(text), func(s Step) error {
		if s.Op == "nope" {
			return fmt.Errorf("wrapped: %w", &checkError{"use run"})
		}
		if s.Args[0] == "n2" {
			return errors.New("not n2")
		}
		return nil
	})
	const want = "deploy.ini:7: [jobs:j] x: not n2 (node n2)\ndeploy.ini:8: [jobs:j] y: wrapped: op refused"
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v, want\n%s", err, want)
	}
	var cause *checkError
	if !errors.As(err, &cause) {
		t.Error("the cause is lost")
	}
	if got := hintOf(err); got != "line 8: use run" {
		t.Errorf("hint %q", got)
	}
}

func TestKey(t *testing.T) {
	home := setHome(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "deploy.ini")
	text := "[DEFAULT]\nbundle=b\n[node:word]\nop_key=ops\n[node:home]\nop_key=~/k\n[node:rel]\nop_key=keys/k\n[node:abs]\nop_key=" + dir + "/keys/k\n[node:none]\n[node:folder]\nop_key=./keys\n"
	f, err := Parse(path, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	key := func(node string) string {
		t.Helper()
		k, err := mustNode(t, f, node).Key()
		if err != nil {
			return "error: " + strings.NewReplacer(home, "HOME", dir, "DIR").Replace(err.Error())
		}
		return strings.NewReplacer(home, "HOME", dir, "DIR").Replace(k)
	}
	expect := func(node, want string) {
		t.Helper()
		if got := key(node); got != want {
			t.Errorf("key of %s: %s, want %s", node, got, want)
		}
	}
	touch := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect("none", "")
	expect("word", "error: DIR/deploy.ini:4: [node:word] op_key: no identity file: there is none of HOME/.ssh/id_ed25519-ops, HOME/.ssh/id_ecdsa-ops, HOME/.ssh/id_rsa-ops")
	expect("rel", "error: DIR/deploy.ini:8: [node:rel] op_key: no identity file DIR/keys/k")
	touch(filepath.Join(home, ".ssh/id_rsa-ops"))
	expect("word", "HOME/.ssh/id_rsa-ops")
	touch(filepath.Join(home, ".ssh/id_ed25519-ops"))
	expect("word", "HOME/.ssh/id_ed25519-ops")
	touch(filepath.Join(home, "k"))
	expect("home", "HOME/k")
	touch(filepath.Join(dir, "keys/k"))
	expect("rel", "DIR/keys/k")
	expect("abs", "DIR/keys/k")
	expect("folder", "error: DIR/deploy.ini:13: [node:folder] op_key: DIR/keys is a folder")
}

func TestFind(t *testing.T) {
	top := t.TempDir()
	sub := filepath.Join(top, "a", "b")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EnvFile, "")
	t.Chdir(sub)
	if _, err := Find(""); err == nil || !strings.Contains(err.Error(), "not found in "+sub) || hintOf(err) == "" {
		t.Errorf("without a file: %v", err)
	}
	file := filepath.Join(top, FileName)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect := func(explicit, want string) {
		t.Helper()
		if got, err := Find(explicit); err != nil || got != want {
			t.Errorf("Find(%q) = %q, %v, want %q", explicit, got, err, want)
		}
	}
	expect("", file)
	if err := os.Mkdir(filepath.Join(sub, FileName), 0o755); err != nil {
		t.Fatal(err)
	}
	expect("", file)
	if err := os.WriteFile("other.ini", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EnvFile, "other.ini")
	expect("", "other.ini")
	expect(file, file)
	t.Setenv(EnvFile, sub)
	if _, err := Find(""); err == nil || !strings.Contains(err.Error(), "$CONC_FILE: "+sub+" is a folder") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Find("missing.ini"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	t.Setenv(EnvFile, "")
	t.Chdir(top)
	expect("", FileName)
	if os.Getuid() == 0 {
		if err := os.Chown(file, 12345, -1); err != nil {
			t.Fatal(err)
		}
		expect("", FileName)
		t.Chdir(filepath.Join(top, "a"))
		if _, err := Find(""); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("a parent's file of another user: %v", err)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "no"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(dir, nil); err == nil || !strings.Contains(err.Error(), "read deploy file") {
		t.Errorf("folder: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxSize+10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big, nil); err == nil || err.Error() != big+":1: larger than 1048576 bytes" {
		t.Errorf("big file: %v", err)
	}
}
