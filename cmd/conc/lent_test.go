package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
)

const short = `
[jobs:short]
one = remote run echo hello
`

// made is how many connections a link has had.
func made(l *testnode.Link) int64 { return l.Counters().Connections }

// While the bundle is mounted, runs and close go over the connection of the mount program.
func TestNoConnectionOfItsOwn(t *testing.T) { inBothWays(t, testNoConnectionOfItsOwn) }

func testNoConnectionOfItsOwn(t *testing.T, wrap []string) {
	n, link, w := newLinked(t, helloDeploy+`
[jobs:go]
one = remote run echo hello >made
two = local  run true
sub = remote run false
`)
	w.wrap = wrap
	w.must(exitOK, "open", "open", "node1")
	opened := made(link)
	w.must(exitFailed, "sub FAILED", "run", "node1", "go")
	w.must(exitOK, "go: OK", "run", "node1", "go", "--to", "one")
	w.must(exitOK, "everything is on the node", "sync")
	if got := onNode(n, "made"); got != "hello\n" {
		t.Errorf("the node has %q", got)
	}
	w.must(exitOK, "closed", "close")
	if now := made(link); now != opened {
		t.Errorf("%d connections were made after open", now-opened)
	}
	w.nothingLeft(n)
}

// What runs on the node goes on when the bundle is unmounted by a step of the same list, and so can
// what follows; then the mount program ends.
func TestUnmountedUnderARun(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy+`
[jobs:leave]
before = remote run echo before
leave  = local  unmount
after  = remote run echo after
unlock = remote close
folder = local  close
`)
	w.must(exitOK, "open", "open", "node1")
	opened := made(link)
	r := w.must(exitOK, "leave: OK", "run", "node1", "leave")
	for _, words := range []string{"before | before", "after | after"} {
		if !strings.Contains(r.stderr, words) {
			t.Errorf("no %q in\n%s", words, r.stderr)
		}
	}
	if now := made(link); now != opened {
		t.Errorf("%d connections were made", now-opened)
	}
	mustEnd(t, w.mark)
	w.nothingLeft(n)
}

// The mount program is killed under a step: that is an ERROR which says so, and after mounting
// again the list goes on.
func TestMountKilledUnderAStep(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+talkative+short)
	w.must(exitOK, "open", "open", "node1")
	r := w.start("run", "node1", "long")
	r.until("| started")
	started := processes(t, n)
	for _, p := range proc.Marked(w.mark) {
		if isMount(p) {
			p.Signal(syscall.SIGKILL)
		}
	}
	code := r.end()
	for _, words := range []string{"sleep ERROR", "the mount program that made it has ended", "conc run node1 long --from sleep"} {
		if code != exitError || !strings.Contains(r.said(), words) {
			t.Errorf("exit code %d, no %q in\n%s", code, words, r.said())
		}
	}
	if !await(func() bool { return len(proc.Living(started)) == 0 }) {
		t.Errorf("left on the node: %v", proc.Living(started))
	}
	w.must(exitOK, "is mounted", "mount", "node1")
	w.must(exitOK, "hello", "run", "node1", "short")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// The link is cut under a step: as with a connection of one's own.
func TestLinkCutUnderAStep(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy+talkative+short)
	w.must(exitOK, "open", "open", "node1")
	r := w.start("run", "node1", "long")
	r.until("| started")
	started := processes(t, n)
	link.Reset()
	code := r.end()
	for _, words := range []string{"sleep ERROR", "the link to the node was lost", "conc run node1 long --from sleep"} {
		if code != exitError || !strings.Contains(r.said(), words) {
			t.Errorf("exit code %d, no %q in\n%s", code, words, r.said())
		}
	}
	if !await(func() bool { return len(proc.Living(started)) == 0 }) {
		t.Errorf("left on the node: %v", proc.Living(started))
	}
	w.must(exitOK, "hello", "run", "node1", "short")
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}

// A signal to the mount program under a step takes the mount away, and not the step.
func TestMountEndedUnderAStep(t *testing.T) {
	t.Parallel()
	n := testnode.Start(t)
	w := newWorkstation(t, n, n.Target(), "", helloDeploy+`
[jobs:waits]
wait = remote run echo $$ $$ > pids; echo started; until test -e ../go; do sleep 0.05; done; echo done
`)
	w.must(exitOK, "open", "open", "node1")
	r := w.start("run", "node1", "waits")
	r.until("| started")
	for _, p := range proc.Marked(w.mark) {
		if isMount(p) {
			p.Signal(syscall.SIGTERM)
		}
	}
	if !await(func() bool { return len(w.mounts()) == 0 }) {
		t.Error("it stays mounted")
	}
	if err := os.WriteFile(filepath.Join(n.Home, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if code := r.end(); code != exitOK || !strings.Contains(r.said(), "| done") {
		t.Errorf("exit code %d\n%s", code, r.said())
	}
	mustEnd(t, w.mark)
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n, "go")
}

// A step with the sudo password, and a shell, have a connection of their own: the mount program
// never sees what goes over it.
func TestPrivateConnection(t *testing.T) {
	if os.Getuid() != 0 { // only root can give somebody a password
		return
	}
	t.Parallel()
	n := testnode.Start(t, testnode.WithSudo("USER ALL=(ALL:ALL) ALL"))
	link := testnode.NewLink(t, n.Addr)
	w := newWorkstation(t, n, n.TargetVia(link), "", sudoDeploy)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testnode.SudoPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must(exitOK, "", "open", "n1")
	for _, args := range [][]string{{"run", "n1", "root", "--to", "who", "--sudo-password-file", secret}, {"shell", "n1", "--", "true"}} {
		before := made(link)
		w.must(exitOK, "", args...)
		if now := made(link); now != before+1 {
			t.Errorf("%s: %d connections", args[0], now-before)
		}
	}
	before := made(link)
	w.must(exitOK, "", "run", "n1", "venv")
	w.must(exitOK, "", "close", "n1")
	if now := made(link); now != before {
		t.Errorf("without a password: %d connections", now-before)
	}
}

// Where the node allows too few sessions on one connection, conc makes its own.
func TestFewSessions(t *testing.T) {
	t.Parallel()
	for _, most := range []int{2, 6, 7} {
		n := testnode.Start(t, testnode.WithConfig(fmt.Sprintf("MaxSessions %d", most)))
		link := testnode.NewLink(t, n.Addr)
		w := newWorkstation(t, n, n.TargetVia(link), "", helloDeploy+short)
		w.must(exitOK, "open", "open", "node1")
		before := made(link)
		w.must(exitOK, "hello", "run", "node1", "short")
		if now := made(link); now != before+1 {
			t.Errorf("with %d sessions: %d connections", most, now-before)
		}
		w.must(exitOK, "closed", "close")
		w.nothingLeft(n)
	}
}

// A node that has gone silent under the mount, without its noticing, is found out about as by a
// connection of one's own.
func TestSilentUnderTheMount(t *testing.T) {
	t.Parallel()
	n, link, w := newLinked(t, helloDeploy+short)
	config := filepath.Join(w.home, ".ssh/config")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append(text, "  ConnectTimeout 2\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must(exitOK, "open", "open", "node1")
	link.Drop()
	w.must(exitError, "no answer in time", "run", "node1", "short")
	link.Heal()
	w.must(exitOK, "hello", "run", "node1", "short")
	link.Drop()
	w.must(exitError, "no answer in time", "close")
	link.Heal()
	w.must(exitOK, "closed", "close")
	w.nothingLeft(n)
}
