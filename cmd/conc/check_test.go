package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/deploy"
	"bundlefs/internal/testnode"
	"bundlefs/ops"
)

const checkDeploy = `[DEFAULT]
bundle = b
venv = venvs/v
python = /usr/bin/python3
admin = USER
op_key = KEY
sshd.ip = 127.0.0.1
sshd.port = PORT
mount = none
[node:n1]
[jobs:install]
venv = remote venv --with-pip
[jobs:restart]
stop = remote run true
reload = remote sudo systemctl reload product
again = remote sudo --no-password true
[jobs:other]
never = remote run echo %(name)s
`

// checkingOf is a check of n1 that has not begun.
func checkingOf(t *testing.T) (*checking, []ops.Step) {
	t.Helper()
	text := strings.NewReplacer("PORT", "22", "USER", "me", "KEY", "/nosuch").Replace(checkDeploy)
	f, err := deploy.Parse("deploy.ini", []byte(text), ops.Check)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Node("n1")
	if err != nil {
		t.Fatal(err)
	}
	s := &session{file: f, node: n, dir: n.Bundle()}
	steps, err := s.steps(deploy.Install)
	if err != nil {
		t.Fatal(err)
	}
	return &checking{s: s}, steps
}

// fit is what a node tells in which nothing is wrong.
func fit() *ops.Survey {
	s := &ops.Survey{Executable: "/usr/bin/python3", Modules: []string{"venv", "ensurepip"}, Venv: "nothing", Space: map[string]ops.Space{}}
	s.Python.Version = "3.9.2"
	s.Sudo.State = "free"
	for _, name := range []string{"home", "venv", "tmp"} {
		s.Space[name] = ops.Space{Path: "/" + name, Free: 10 << 30, Total: 20 << 30, Inodes: 1e6, AllInodes: 2e6, Writable: true}
	}
	return s
}

// What a node is like becomes findings, each with its level and, where something is wrong, a remedy.
func TestFindings(t *testing.T) {
	disk := func(name string, change func(*ops.Space)) func(*ops.Survey) {
		return func(s *ops.Survey) {
			space := s.Space[name]
			change(&space)
			s.Space[name] = space
		}
	}
	sudo := func(state string) func(*ops.Survey) { return func(s *ops.Survey) { s.Sudo.State = state } }
	for name, c := range map[string]struct {
		change            func(*ops.Survey)
		what, level, text string
	}{
		"python":         {func(*ops.Survey) {}, "python", "OK", "/usr/bin/python3 is Python 3.9.2"},
		"no venv":        {func(s *ops.Survey) { s.Modules = []string{"ensurepip"} }, "python", "FAIL", "no module venv"},
		"no ensurepip":   {func(s *ops.Survey) { s.Modules = []string{"venv"} }, "python", "FAIL", "no module ensurepip"},
		"venv is there":  {func(s *ops.Survey) { s.Venv, s.VenvPython = "folder", true }, "venv", "WARN", "a virtual environment at venvs/v already"},
		"no tools":       {func(*ops.Survey) {}, "build tools", "OK", "none on the node"},
		"compiler":       {func(s *ops.Survey) { s.Tools = []string{"/usr/bin/cc", "/usr/bin/make"} }, "build tools", "WARN", "/usr/bin/cc /usr/bin/make"},
		"python-dev":     {func(s *ops.Survey) { s.Headers = "/usr/include/python3.9/Python.h" }, "build tools", "WARN", "Python.h"},
		"sudo free":      {sudo("free"), "sudo", "OK", "needs no password, for step restart reload and 1 more"},
		"sudo root":      {sudo("root"), "sudo", "OK", "needs no password"},
		"sudo asks":      {sudo("asks"), "sudo", "OK", "asks for a password, or is not allowed to this user"},
		"sudo hangs":     {sudo("timeout"), "sudo", "WARN", "does not answer"},
		"no sudo":        {sudo("none"), "sudo", "FAIL", "not on the node, and step restart reload"},
		"room":           {func(*ops.Survey) {}, "disk", "OK", "/home (home) has 10240 MiB free"},
		"full home":      {disk("home", func(s *ops.Space) { s.Free = 1 << 20 }), "disk", "FAIL", "/home (home) has 1 MiB free, about 17 MiB are needed"},
		"full for venv":  {disk("venv", func(s *ops.Space) { s.Free = 21 << 20 }), "disk", "FAIL", "/venv (venv) has 21 MiB free, about 22 MiB are needed"},
		"full tmp":       {disk("tmp", func(s *ops.Space) { s.Free = 0 }), "disk", "FAIL", "/tmp (tmp) has 0 MiB free"},
		"read-only home": {disk("home", func(s *ops.Space) { s.Writable = false }), "disk", "FAIL", "/home (home) is not writable"},
		"no inodes":      {disk("home", func(s *ops.Space) { s.Inodes = 1001 }), "disk", "FAIL", "room for 1001 more files only"},
		"none counted":   {disk("home", func(s *ops.Space) { s.Inodes, s.AllInodes = 0, 0 }), "disk", "OK", "/home (home) has"},
		"noexec venv":    {disk("venv", func(s *ops.Space) { s.NoExec = true }), "disk", "FAIL", "/venv (venv) is mounted noexec"},
		"noexec tmp":     {disk("tmp", func(s *ops.Space) { s.NoExec = true }), "disk", "OK", "/tmp (tmp) has"},
	} {
		t.Run(name, func(t *testing.T) {
			k, steps := checkingOf(t)
			found := fit()
			c.change(found)
			k.node(found, steps, k.sudoNeed())
			k.space(found, 1<<20, 5)
			k.shows(t, c.what, c.level, c.text)
			for _, f := range k.list {
				if f.Level == "FAIL" && f.Text == "" || f.Level != "OK" && f.Remedy == "" {
					t.Errorf("no remedy: %+v", f)
				}
				if f.Level != "OK" && f.What != c.what {
					t.Errorf("also found: %+v", f)
				}
			}
			if want := map[string]int{"FAIL": exitFailed}[c.level]; k.code != want {
				t.Errorf("exit code %d, want %d", k.code, want)
			}
		})
	}
}

// shows fails the test unless there is a finding.
func (c *checking) shows(t *testing.T, what, level, text string) {
	t.Helper()
	for _, f := range c.list {
		if f.What == what && f.Level == level && strings.Contains(f.Text, text) {
			return
		}
	}
	t.Errorf("no %s %s %q in %+v", what, level, text, c.list)
}

// Without FUSE conc delivers all the same.
func TestCheckFUSE(t *testing.T) {
	for _, c := range []struct {
		device, helper error
		level, text    string
	}{
		{nil, nil, "OK", "/dev/fuse can be used"},
		{os.ErrNotExist, nil, "WARN", "conc delivers without a mount"},
		{nil, errors.New("not found"), "WARN", "fusermount3 is not to be found; conc delivers without a mount"},
	} {
		k, _ := checkingOf(t)
		k.fuse(c.device, c.helper)
		k.shows(t, "FUSE", c.level, c.text)
		if k.code != exitOK {
			t.Errorf("exit code %d", k.code)
		}
	}
}

func TestCheckClock(t *testing.T) {
	k, _ := checkingOf(t)
	found, now := fit(), time.Now()
	for _, c := range []struct {
		off         time.Duration
		level, text string
	}{
		{0, "OK", "agrees within"},
		{-time.Hour, "WARN", "is -1h0m0s off"},
		{time.Hour, "WARN", "is 59m59s off"},
	} {
		found.Time = float64(now.Add(c.off).UnixMicro()) / 1e6
		k.clock(found, now, now.Add(time.Second))
		k.shows(t, "clock", c.level, c.text)
	}
}

// What only a real node can show.
func TestCheckNode(t *testing.T) {
	t.Parallel()
	plain := testnode.Start(t, testnode.WithSFTPServer("-P", "fsync,statvfs"))
	w := newWorkstation(t, plain, plain.Target(), "", checkDeploy)
	check := func(code int, words ...string) {
		t.Helper()
		r := w.conc("check", "n1", "--json")
		for _, word := range words {
			if !strings.Contains(r.stdout, word) {
				t.Errorf("no %q in\n%s", word, r.stdout)
			}
		}
		if r.code != code {
			t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
		}
	}
	check(exitOK, `"what":"SFTP","level":"WARN","text":"the server lacks fsync@openssh.com (a barrier cannot wait for the node's disk), statvfs@openssh.com (free space is not known)"`,
		`"what":"sudo","level":"OK"`, `step restart reload`)

	if err := os.MkdirAll(filepath.Join(plain.Home, "venvs/v/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/bin/python3", filepath.Join(plain.Home, "venvs/v/bin/python")); err != nil {
		t.Fatal(err)
	}
	check(exitOK, `"what":"venv","level":"WARN"`)

	ini := filepath.Join(w.project, "deploy.ini")
	text, err := os.ReadFile(ini)
	if err != nil {
		t.Fatal(err)
	}
	write(t, ini, strings.Replace(string(text), "python = /usr/bin/python3", "python = python3.99", 1))
	check(exitFailed, `"what":"python","level":"FAIL","text":"python3.99 is not on the node`, `"remedy":"install python3 (3.6 or later) on the node`)

	stranger := filepath.Join(w.home, "stranger")
	if out, err := w.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write(t, ini, strings.Replace(string(text), plain.KeyFile, stranger, 1))
	check(exitError, `"what":"login","level":"FAIL"`)
	write(t, ini, string(text))

	plain.NewHostKey()
	plain.Restart()
	check(exitError, `"what":"host key","level":"FAIL"`, "changed")
	write(t, plain.KnownHosts, "")
	check(exitError, `"what":"host key","level":"FAIL"`, "not known")
	plain.Stop()
	check(exitError, `"what":"reach","level":"FAIL"`)
}

// Sudo as it is on a real node.
func TestCheckSudo(t *testing.T) {
	if os.Getuid() != 0 { // only root can give somebody rules
		return
	}
	t.Parallel()
	for name, c := range map[string]struct {
		option testnode.Option
		code   int
		want   string
	}{
		"free":           {testnode.WithSudo("USER ALL=(ALL:ALL) NOPASSWD: ALL"), exitOK, `"what":"sudo","level":"OK","text":"needs no password, for step restart reload`},
		"asks":           {testnode.WithSudo("USER ALL=(ALL:ALL) ALL"), exitOK, `"what":"sudo","level":"OK","text":"asks for a password`},
		"not in sudoers": {testnode.WithSudo(""), exitOK, `"what":"sudo","level":"OK","text":"asks for a password, or is not allowed to this user`},
		"none":           {testnode.WithoutSudo(), exitFailed, `"what":"sudo","level":"FAIL","text":"it is not on the node`},
	} {
		t.Run(name, func(t *testing.T) {
			n := testnode.Start(t, testnode.AsUser(), c.option)
			w := newWorkstation(t, n, n.Target(), "", checkDeploy)
			r := w.conc("check", "n1", "--json")
			if r.code != c.code || !strings.Contains(r.stdout, c.want) {
				t.Errorf("exit code %d, want %d and %s\n%s", r.code, c.code, c.want, r.stdout)
			}
		})
	}
}
