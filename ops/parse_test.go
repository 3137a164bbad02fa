package ops

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/deploy"
	"bundlefs/internal/remote"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line string
		want operation
	}{
		{"remote open", openOp{Remote}},
		{"local open", openOp{Local}},
		{"remote close", closeOp{Remote}},
		{"local mount", mountOp{}},
		{"local unmount", unmountOp{}},
		{"local sync", syncOp{}},
		{"local copy a*.whl b", copyOp{globs: []string{"a*.whl", "b"}}},
		{"local copy a --to x/y/", copyOp{[]string{"a"}, "x/y"}},
		{"local copy a --to .", copyOp{[]string{"a"}, ""}},
		{"local copy -- --to", copyOp{globs: []string{"--to"}}},
		{"remote verify --strict", verifyOp{true}},
		{"remote venv --with-pip --keep", venvOp{withPip: true, keep: true}},
		{"remote untar dist/./a-*.tar.gz", untarOp{"dist/a-*.tar.gz"}},
		{"remote setup a-1.0", setupOp{"a-1.0"}},
		{"remote pip a-*.whl", pipOp{targets: []pipTarget{{"glob", "a-*.whl"}}}},
		{"remote pip a==1.0 b[x,y]>=2 c==1.*", pipOp{targets: []pipTarget{{"requirement", "a==1.0"}, {"requirement", "b[x,y]>=2"}, {"requirement", "c==1.*"}}}},
		{"remote pip hello", pipOp{targets: []pipTarget{{"requirement", "hello"}}}},
		{"remote pip a-1.0.tar.gz dist/a-1.?.zip", pipOp{targets: []pipTarget{{"glob", "a-1.0.tar.gz"}, {"glob", "dist/a-1.?.zip"}}}},
		{"remote pip -r req.txt -c c.txt --no-deps --no-deps", pipOp{[]pipTarget{{"-r", "req.txt"}, {"-c", "c.txt"}}, []string{"--no-deps"}}},
		{"remote run ls -l --timeout 3", runOp{Remote, "ls -l --timeout 3"}},
		{"remote sudo systemctl reload --no-block x", sudoOp{[]string{"systemctl", "reload", "--no-block", "x"}, false}},
		{"remote sudo --no-password -- id", sudoOp{[]string{"id"}, true}},
		{"remote python hello.devops.migrate:upgrade", pythonOp{childStep{host: Remote}, "hello.devops.migrate", "upgrade"}},
		{"local python --sudo --path src --path=lib/ m:C.f", pythonOp{childStep{host: Local, sudo: true, path: []string{"src", "lib"}}, "m", "C.f"}},
		{"remote test --from-bundle a.b c", testOp{childStep{host: Remote, bundle: true}, []string{"a.b", "c"}}},
		{"remote link ./current venvs//a/", linkOp{"current", "venvs/a"}},
		{"local stop", stopOp{""}},
		{"remote stop look  at it", stopOp{"look at it"}},
	} {
		s, err := Parse(step(c.line))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
		} else if !reflect.DeepEqual(s.op, c.want) {
			t.Errorf("%s: %#v, want %#v", c.line, s.op, c.want)
		}
	}
}

func step(line string) deploy.Step {
	words := strings.Fields(line)
	return deploy.Step{List: "install", Name: "s1", Host: words[0], Op: words[1], Args: words[2:]}
}

func TestParseRefuses(t *testing.T) {
	for line, part := range map[string]string{
		"remote pipp a":                        `unknown op "pipp"; did you mean "pip"?`,
		"local copi a":                         `did you mean "copy"?`,
		"remote python":                        "needs a function, MODULE:FUNC",
		"remote python migrate":                `"migrate" names no function`,
		"remote python a/b.py:f":               `"a/b.py" is no name of a module`,
		"remote python a:f()":                  `"f()" is no name of a function`,
		"remote python a:f b":                  "takes one function only",
		"remote python --path ../x a:f":        "must not contain ..",
		"local python --from-bundle a:f":       "--from-bundle is for the remote host",
		"remote python --sudoo a:f":            "did you mean --sudo?",
		"remote test":                          "needs a module",
		"remote test tests/a.py":               `"tests/a.py" is no name of a module`,
		"local test --from-bundle a":           "--from-bundle is for the remote host",
		"remote link current":                  "needs the path of the link and its target",
		"remote link /current a":               "must be relative to the home",
		"remote link current ~/a":              "must be relative to the home",
		"remote link current ../a":             "must not contain ..",
		"remote link . a":                      "is not below the home",
		"remote link current current/a":        "would point to itself",
		"local link current a":                 "does not run on the local host",
		"remote frobnicate":                    "the ops are: close, copy,",
		"elsewhere run a":                      `unknown host "elsewhere"`,
		"remote copy a":                        "copy does not run on the remote host; write: local copy GLOB",
		"local venv":                           "write: remote venv",
		"local pip a":                          "does not run on the local host",
		"remote mount":                         "write: local mount",
		"remote open x":                        `takes no argument, but got "x"`,
		"local close x":                        "takes no argument",
		"local mount x":                        "takes no argument",
		"local unmount x":                      "takes no argument",
		"local sync x":                         "takes no argument",
		"remote verify x":                      "takes no argument",
		"remote venv x":                        "takes no argument",
		"remote venv --keep --clear":           "exclude each other",
		"remote venv --keeep":                  "unknown option --keeep; did you mean --keep?",
		"remote venv --keep=1":                 "takes no value",
		"remote venv --frob":                   "the options are: --clear, --keep",
		"local copy":                           "needs a glob",
		"local copy a[":                        "malformed",
		"local copy a --to":                    "needs a value",
		"local copy a --to ../x":               "must not contain ..",
		"local copy a --to /x":                 "must be relative to the bundle",
		"local copy a --to=":                   "is empty",
		"local wheel":                          "needs a glob",
		"local wheel a[":                       "malformed",
		"local wheel a --to ../x":              "must not contain ..",
		"local wheel a --too x":                "did you mean --to?",
		"remote wheel a":                       "wheel does not run on the remote host; write: local wheel GLOB",
		"remote untar":                         "needs a glob",
		"remote untar a b":                     "one glob only",
		"remote untar ../a":                    "must not contain ..",
		"remote untar ~/a":                     "must be relative",
		"remote setup /a":                      "must be relative",
		"remote pip":                           "needs a glob",
		"remote pip -c x":                      "needs a glob",
		"remote pip https://example.org/a.whl": "names a place to fetch from",
		"remote pip a@git":                     "names a place to fetch from",
		"remote pip -r ../x":                   "must not contain ..",
		"remote pip --index-url x a":           "unknown option --index-url",
		"remote pip ../a.whl":                  "must not contain ..",
		"remote run":                           "needs a command",
		"remote run --timeout 0 x":             "no duration above 0",
		"remote run --timeout soon x":          "no duration above 0",
		"remote run --timeout":                 "needs a value",
		"remote run --ok-codes 0,x y":          `"x" is no exit code`,
		"remote run --ok-codes 256 y":          "no exit code",
		"remote sudo":                          "needs a command",
		"remote sudo -u bob id":                "unknown option -u",
		"remote sudo -- -u bob id":             "options of sudo itself cannot be given",
		"local sudo id":                        "does not run on the local host; write: remote sudo",
		"remote run --frob y":                  "unknown option --frob",
	} {
		err := Check(step(line))
		var arg *ArgError
		if !errors.As(err, &arg) {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if text := arg.Error() + "; " + arg.Hint(); !strings.Contains(text, part) || arg.Hint() == "" {
			t.Errorf("%s: %q lacks %q", line, text, part)
		}
	}
}

func TestCommonOptions(t *testing.T) {
	for line, want := range map[string]time.Duration{
		"remote run --timeout 90 x": 90 * time.Second, "remote run --timeout=1m30s x": 90 * time.Second, "remote venv --timeout 0.5": 500 * time.Millisecond,
		"local copy a --timeout 2h": 2 * time.Hour, "remote run x": 0,
	} {
		s, err := Parse(step(line))
		if err != nil || s.Timeout != want {
			t.Errorf("%s: %v %v", line, s.Timeout, err)
		}
	}
	s, err := Parse(step("remote run --ok-codes 0,2 x"))
	if err != nil || !reflect.DeepEqual(s.OKCodes, []int{0, 2}) {
		t.Errorf("%v %v", s.OKCodes, err)
	}
	if s, _ := Parse(step("remote run x")); !reflect.DeepEqual(s.OKCodes, []int{0}) {
		t.Errorf("%v", s.OKCodes)
	}
}

func TestParseAllNamesThePlace(t *testing.T) {
	d := step("remote frob")
	d.File, d.Line = "deploy.ini", 12
	if _, err := ParseAll([]deploy.Step{step("local stop"), d}); err == nil || !strings.HasPrefix(err.Error(), "deploy.ini:12: step s1: unknown op") {
		t.Error(err)
	}
}

func TestSelect(t *testing.T) {
	list := steps(t, "local stop", "local stop", "local stop")
	for _, c := range []struct{ from, to, want string }{
		{"", "", "s1 s2 s3"}, {"s2", "", "s2 s3"}, {"", "s2", "s1 s2"}, {"s2", "s2", "s2"},
	} {
		got, err := Select(list, c.from, c.to)
		var names []string
		for _, s := range got {
			names = append(names, s.Name)
		}
		if err != nil || strings.Join(names, " ") != c.want {
			t.Errorf("%v: %v %v", c, names, err)
		}
	}
	for _, c := range []struct{ from, to, part string }{{"s4", "", "no step \"s4\""}, {"", "x", "no step"}, {"s3", "s1", "comes before"}} {
		_, err := Select(list, c.from, c.to)
		if err == nil || !strings.Contains(err.Error(), c.part) || hintOf(err) == "" {
			t.Errorf("%v: %v", c, err)
		}
	}
	r := Run(t.Context(), &Env{}, list, Options{From: "s9"}, nil)
	if r.Status != Blocked || r.Err == nil {
		t.Errorf("%+v", r)
	}
}

func TestExplain(t *testing.T) {
	s := newOffline(t, []string{"sshd.port = 22", "admin = deploy"})
	s.bundle.path = "/mnt/a b"
	ssh := "ssh -F none -p 22 deploy@127.0.0.1 "
	empty := `test -z "$(ls -A venvs/v1 2>/dev/null)"`
	for line, want := range map[string]string{
		"remote open":                    remote.Quote("python3", "-c", scriptLock, "node1", filepath.Join(s.env.Dir, "deploy.ini"), "by hand") + " | " + ssh + "'mkdir bundle-1 && umask 077 && cat >bundle-1/.conc-owner.json && test -s bundle-1/.conc-owner.json'",
		"remote close":                   ssh + remote.Quote(oursByHand(&s.env)+" && rm -r bundle-1"),
		"local open":                     "mkdir -p '/mnt/a b'",
		"local close":                    "rmdir '/mnt/a b'",
		"local mount":                    ssh + `'sed -n '\''s/.*"token": "\([0-9a-f]*\)".*/\1/p'\'' bundle-1/.conc-owner.json' | bundlefs -p 22 -F none -o exclusive=- deploy@127.0.0.1:bundle-1 '/mnt/a b'`,
		"local unmount":                  "bundlefs unmount '/mnt/a b'",
		"local sync":                     "bundlefs sync '/mnt/a b'",
		"local copy a/*.whl b --to x":    "(cd " + s.env.Dir + " && mkdir -p '/mnt/a b/x' && cp -rLp -- a/*.whl b '/mnt/a b/x'/)",
		"remote venv":                    ssh + `'{ ` + empty + ` || { echo '\''there is something at venvs/v1 already'\'' >&2; false; }; } && /usr/bin/python3 -m venv --without-pip venvs/v1'`,
		"remote venv --with-pip --clear": ssh + `'{ ` + empty + ` || test -f venvs/v1/pyvenv.cfg; } && /usr/bin/python3 -m venv --clear venvs/v1'`,
		"remote venv --keep":             ssh + `'if ` + empty + `; then /usr/bin/python3 -m venv --without-pip venvs/v1; else test -f venvs/v1/pyvenv.cfg && venvs/v1/bin/python -c '\'''\''; fi'`,
		"remote setup a-1.0.tar.gz":      ssh + "'cd bundle-1 && cd a-1.0/ && ~/venvs/v1/bin/python setup.py install'",
		"remote untar a.zip":             ssh + `'cd bundle-1 && for f in a.zip; do /usr/bin/python3 -m zipfile -e "$f" . || exit; done'`,
		"remote run ls $HOME":            ssh + `'cd bundle-1 && PATH=~/venvs/v1/bin:$PATH; ls $HOME'`,
		"remote run echo $CONC_WORD":     ssh + `'cd bundle-1 && PATH=~/venvs/v1/bin:$PATH; export CONC_WORD='\''a '\''\'\'''\''b'\''\'\'''\'' $c'\''; echo $CONC_WORD'`,
		"remote link current venvs/a":    ssh + "'test -e venvs/a && { test -L ./current || test ! -e ./current; } && ln -sfn venvs/a ./.conc-new-97b0560280ed60a5 && mv -T ./.conc-new-97b0560280ed60a5 ./current'",
		"remote stop":                    "# stop",
		"local stop now":                 "# stop: now",
		"remote verify":                  remote.Quote("python3", "-X", "utf8", "-c", scriptManifest, s.bundle.state) + " | " + ssh + "'cd bundle-1 && sha256sum -c --quiet'",
	} {
		if got := Explain(steps(t, line)[0], s.env); got != want {
			t.Errorf("%s:\n got %s\nwant %s", line, got, want)
		}
	}
	s.bundle.path = "none"
	for _, line := range []string{"local open", "local close", "local mount", "local unmount", "local sync"} {
		if got := Explain(steps(t, line)[0], s.env); got != "true" {
			t.Errorf("%s: %s", line, got)
		}
	}
	if got := Explain(steps(t, "local run x")[0], s.env); got != "(cd "+filepath.Clean(s.env.Dir)+" && x)" {
		t.Error(got)
	}
}

func TestGlobWord(t *testing.T) {
	for in, want := range map[string]string{"a*.whl": "a*.whl", "a b?[c d]": "'a b'?['c d']", "$x;*": "'$x;'*", "a'*": `'a'\'''*`} {
		if got := globWord(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestStatusText(t *testing.T) {
	for s := OK; s <= TimedOut; s++ {
		var back Status
		text, err := s.MarshalText()
		if err != nil || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%v: %s", s, text)
		}
	}
	if new(Status).UnmarshalText([]byte("FINE")) == nil || Status(9).String() != "status 9" {
		t.Error("an unknown status is taken")
	}
}
