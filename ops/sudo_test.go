package ops

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// sudoSite is a site whose user has a password and rules; it counts how often it was asked.
func sudoSite(t *testing.T, password string, asked *int, rules ...string) *site {
	t.Helper()
	s := newSite(t, testnode.Start(t, testnode.WithSudo(rules...)))
	s.env.SudoPassword = func(context.Context) ([]byte, error) {
		*asked++
		return []byte(password), nil
	}
	t.Cleanup(s.env.Forget)
	return s
}

// asRoot tells whether we are root: nobody else can give somebody a password. To root these tests
// always run, and fail where there is no sudo; another user's run says what it leaves out.
func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Log("needs root: left out")
		return false
	}
	return true
}

// The time for sudo begins when there is a connection.
func TestSudoTimeIsSudosOwn(t *testing.T) {
	s := newOffline(t, nil)
	limited := true
	s.env.Connect = func(ctx context.Context) (*remote.Client, error) {
		_, limited = ctx.Deadline()
		return nil, errors.New("no route")
	}
	want(t, first(s.run("remote sudo id")), Error, "before the first step: no route")
	if limited {
		t.Error("connecting has the limit of sudo")
	}
}

const allRules = "USER ALL=(ALL:ALL) ALL"

func TestSudo(t *testing.T) {
	if !asRoot(t) {
		return
	}
	for name, defaults := range map[string]string{"pty": "Defaults use_pty", "no pty": "Defaults !use_pty, requiretty"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			s := sudoSite(t, testnode.SudoPassword, &asked, defaults, allRules)
			r, e := s.run("remote run id -u", "remote sudo id -u", "remote sudo cat", "remote sudo sh -c 'pwd; echo \"$0\" err >&2; exit 0' x")
			want(t, r, OK)
			if got := strings.Join(e.out, " "); got != "54321 0 "+s.bundle.path || strings.Join(e.err, "") != "x err" || asked != 1 {
				t.Errorf("%q %q, asked %d times", got, e.err, asked)
			}
			want(t, first(s.run("remote sudo --ok-codes 3 sh -c 'exit 3'")), OK)
			want(t, first(s.run("remote sudo sh -c 'exit 4'")), Failed, "exit status 4")
			want(t, first(s.run("remote sudo no-such-command-here")), Failed, "exit status 1")
			want(t, first(s.run("remote run true", "remote sudo true", "remote run true")), OK)
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			sudoKilled(t, s)
		})
	}
}

// sudoKilled ends root's processes by a timeout, a cancel, and the death of the agent.
func sudoKilled(t *testing.T, s *site) {
	file := filepath.Join(s.bundle.path, "pid")
	plain := "sh -c 'echo $$ > pid; echo ready; sleep 300'"
	stubborn := `sh -c 'trap "" HUP TERM INT; echo $$ > pid; echo ready; while :; do sleep 0.1; done'`
	ended := func(what string) {
		pid := pidIn(t, file)
		until(t, what+": the command has ended", func() bool { return !lives(pid) })
		os.Remove(file)
	}
	r, _ := s.run("remote sudo --timeout 3s " + stubborn)
	want(t, r, TimedOut)
	ended("timeout")
	ctx, cancel := context.WithCancel(t.Context())
	r = s.runWith(ctx, &events{onOutput: func(string) { cancel() }}, "remote sudo "+plain)
	want(t, r, Stopped, "interrupted")
	if strings.Contains(r.Message, "could not") {
		t.Error(r.Message)
	}
	ended("cancel")
	link := testnode.NewLink(t, s.node.Addr)
	s.connectTo(s.node.TargetVia(link))
	r = s.runWith(t.Context(), &events{onOutput: func(string) { link.Reset() }}, "remote sudo "+stubborn)
	want(t, r, Error, "lost")
	ended("lost link")
	s.connectTo(s.node.Target())
	r, _ = s.run("remote sudo sh -c 'echo $$ > pid; kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $PPID)); sleep 300'")
	if r.Status == OK {
		t.Error("it went on")
	}
	ended("the processes above it are gone")
}

// A user with a password may still have a command without one: that does not
// find the password on its standard input.
func TestSudoMixed(t *testing.T) {
	if !asRoot(t) {
		return
	}
	asked := 0
	s := sudoSite(t, testnode.SudoPassword, &asked, allRules, "USER ALL=(root) NOPASSWD: /usr/bin/cat")
	r, e := s.run("remote sudo id -u", "remote sudo cat", "remote sudo cat /no/such/file")
	want(t, r, Failed, "exit status 1")
	if strings.Join(e.out, " ") != "0" || len(e.err) != 1 || !strings.Contains(e.err[0], "/no/such/file") || asked != 1 {
		t.Errorf("%q %q %d", e.out, e.err, asked)
	}
	want(t, first(s.run("remote sudo --no-password cat", "remote sudo --no-password --timeout 20s id -u")), Failed, "exit status 1")
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestSudoWithoutPassword(t *testing.T) {
	if !asRoot(t) {
		return
	}
	asked := 0
	t.Parallel()
	s := sudoSite(t, "never asked", &asked, allRules, "USER ALL=(ALL) NOPASSWD: ALL")
	r, e := s.run("remote sudo id -u", "remote sudo cat")
	want(t, r, OK)
	if strings.Join(e.out, " ") != "0" || asked != 0 {
		t.Errorf("%q %d", e.out, asked)
	}
}

func TestSudoBlocked(t *testing.T) {
	if !asRoot(t) {
		return
	}
	for _, c := range []struct {
		name, password string
		rules          []string
		ask            func(context.Context) ([]byte, error)
		options        []testnode.Option
		parts          []string
		asked          int
	}{
		{"wrong", "mistyped", []string{allRules}, nil, nil, []string{"wrong sudo password"}, 1},
		{"not in sudoers", testnode.SudoPassword, []string{"root ALL=(ALL) ALL"}, nil, nil, []string{"may not use sudo"}, 0},
		{"nobody to ask", "", []string{allRules}, func(context.Context) ([]byte, error) { return nil, errors.New("no terminal to ask on") }, nil, []string{"no terminal"}, 0},
		{"no sudo", "", []string{allRules}, nil, []testnode.Option{testnode.WithoutSudo()}, []string{"no sudo on the node"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			s := newSite(t, testnode.Start(t, append(c.options, testnode.WithSudo(c.rules...))...))
			s.env.SudoPassword = c.ask
			if c.ask == nil {
				s.env.SudoPassword = func(context.Context) ([]byte, error) { asked++; return []byte(c.password), nil }
			}
			r, e := s.run("remote run echo no", "remote sudo echo no")
			want(t, r, Blocked, append(c.parts, "before the first step")...)
			if len(e.started) > 0 || len(e.out) > 0 || asked != c.asked || r.Resume != "conc install node1 --from s1" {
				t.Errorf("started %q, said %q, asked %d, %+v", e.started, e.out, asked, r)
			}
			for _, line := range append(e.err, r.Message, r.Hint) {
				if c.password != "" && strings.Contains(line, c.password) {
					t.Errorf("the password shows: %q", line)
				}
			}
		})
	}
}

// A rule for one command does not let us kill it by root: hanging up does.
func TestSudoNarrowRule(t *testing.T) {
	if !asRoot(t) {
		return
	}
	asked := 0
	s := sudoSite(t, testnode.SudoPassword, &asked, "USER ALL=(root) /usr/bin/sleep 287, /usr/bin/id")
	r, _ := s.run("remote sudo sleep 200")
	want(t, r, Failed, "exit status 1")
	want(t, first(s.run("remote sudo id -u")), OK)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		for pidOf("sleep 287", "0") == 0 && ctx.Err() == nil {
			runtime.Gosched()
		}
	}()
	r = s.runWith(ctx, &events{}, "remote sudo sleep 287")
	<-done
	want(t, r, Stopped)
	until(t, "sleep has ended", func() bool { return pidOf("sleep 287", "0") == 0 })
}

// pidOf finds a process of a user whose whole command line it is; 0 when there is none.
func pidOf(command, uid string) int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		if strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) != command {
			continue
		}
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if strings.Contains(string(status), "Uid:\t"+uid+"\t") {
			return 1
		}
	}
	return 0
}
