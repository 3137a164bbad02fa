package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bundlefs/internal/testnode"
)

// TestScript runs testdata/script. Beside testscript's own, there are the commands
//
//	exits CODE COMMAND…   the command has to end with the code
//	expand FILE…          ${PORT}, ${LOGIN} and ${KEY} in the files become the node's
//
// A script whose first line is "# node" has a node.
func TestScript(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runScript(t, file, nil) })
	}
}

// runScript runs a script, in which a command line that begins with conc goes on behind wrap.
func runScript(t *testing.T, file string, wrap []string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var n *testnode.Node
	if strings.HasPrefix(string(text), "# node\n") {
		n = testnode.Start(t)
	}
	runtime, err := os.MkdirTemp("", "conc-run-")
	if err != nil {
		t.Fatal(err)
	}
	mark := "CONC_TEST_MARK=" + filepath.Base(runtime)
	t.Cleanup(func() { // after the script, which runs as a parallel test
		os.RemoveAll(runtime)
		mustEnd(t, mark)
	})
	testscript.Run(t, testscript.Params{
		Files: []string{file},
		Setup: func(env *testscript.Env) error { return setupScript(env, n, runtime, mark) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) { exits(ts, neg, args, wrap) }, "expand": expand,
		},
		RequireExplicitExec: true,
	})
}

func setupScript(env *testscript.Env, n *testnode.Node, runtime, mark string) error {
	home := filepath.Join(env.WorkDir, "home")
	for k, v := range map[string]string{
		"HOME": home, "XDG_STATE_HOME": filepath.Join(home, "state"), "XDG_RUNTIME_DIR": runtime, "TZ": "UTC",
		"XDG_CACHE_HOME": filepath.Join(home, "cache"), "CONC_FILE": "", "SSH_AUTH_SOCK": "",
	} {
		env.Setenv(k, v)
	}
	env.Vars = append(env.Vars, raceEnv, mark)
	config := ""
	if n != nil {
		env.Setenv("PORT", strconv.Itoa(n.Port))
		env.Setenv("LOGIN", n.User)
		env.Setenv("KEY", n.KeyFile)
		env.Setenv("NODE_HOME", n.Home)
		config = "Host 127.0.0.1\n  UserKnownHostsFile " + n.KnownHosts + "\n  IdentitiesOnly yes\n"
	}
	return errors.Join(os.MkdirAll(filepath.Join(home, ".ssh"), 0o700), os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte(config), 0o600))
}

func exits(ts *testscript.TestScript, neg bool, args, wrap []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	line := args[1:]
	if line[0] == "conc" {
		line = append(slices.Clone(wrap), line...)
	}
	if err := ts.Exec(line[0], line[1:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		file := ts.MkAbs(name)
		text := os.Expand(ts.ReadFile(name), func(key string) string {
			if v := ts.Getenv(key); v != "" {
				return v
			}
			return fmt.Sprintf("${%s}", key)
		})
		ts.Check(os.WriteFile(file, []byte(text), 0o644))
	}
}
