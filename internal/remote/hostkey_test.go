package remote_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

func TestUnknownHost(t *testing.T) {
	n := testnode.Start(t)
	known := strings.Fields(readFile(t, n.KnownHosts)) // name, type, key
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(known[1] + " " + known[2]))
	if err != nil {
		t.Fatal(err)
	}
	print := ssh.FingerprintSHA256(key)
	file := filepath.Join(t.TempDir(), "sub", "known_hosts")
	target := with(n.Target(), "UserKnownHostsFile", file)

	e := failDial[*remote.HostKeyError](t, target, nil)
	if e.Kind != remote.HostKeyUnknown || e.Fingerprint != print || !strings.Contains(e.Hint(), "ssh-keyscan -p "+fmt.Sprint(n.Port)) || !strings.Contains(e.Hint(), file) {
		t.Errorf("without a prompter: %+v, hint %s", e, e.Hint())
	}
	no := &fakePrompter{}
	failDial[*remote.HostKeyError](t, target, no)
	if q := no.questions(); len(q) != 1 || !strings.Contains(q[0], print) {
		t.Errorf("asked %q", q)
	}
	for _, options := range [][]string{{"StrictHostKeyChecking", "yes"}, {"BatchMode", "yes"}} {
		yes := &fakePrompter{yes: true}
		failDial[*remote.HostKeyError](t, with(target, options...), yes)
		if q := yes.questions(); len(q) != 0 {
			t.Errorf("%v: asked %q", options, q)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Fatal("a refused key was written")
	}

	mustDial(t, target, &fakePrompter{yes: true})
	if got := strings.Fields(readFile(t, file)); strings.Join(got, " ") != strings.Join(known, " ") {
		t.Errorf("recorded %q, want %q", got, known)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	mustDial(t, target, nil)
}

func TestAcceptNew(t *testing.T) {
	n := testnode.Start(t)
	for _, word := range []string{"accept-new", "no", "off"} {
		file := writeFile(t, "known_hosts", "other.example ssh-ed25519 broken-line", 0o600) // no newline at its end
		target := with(n.Target(), "UserKnownHostsFile", file, "StrictHostKeyChecking", word, "HashKnownHosts", "yes")
		mustDial(t, target, nil)
		lines := strings.Split(strings.TrimSpace(readFile(t, file)), "\n")
		if len(lines) != 2 || !strings.HasPrefix(lines[1], "|1|") {
			t.Errorf("%s: recorded %q", word, lines)
		}
		mustDial(t, with(target, "StrictHostKeyChecking", "yes"), nil)
		out, err := exec.Command("ssh-keygen", "-f", file, "-F", fmt.Sprintf("[127.0.0.1]:%d", n.Port)).CombinedOutput()
		if err != nil {
			t.Errorf("ssh-keygen does not find it: %v %s", err, out)
		}
	}
}

func TestChangedHostKey(t *testing.T) {
	n := testnode.Start(t)
	text := readFile(t, n.KnownHosts)
	n.NewHostKey()
	n.Restart()
	file := writeFile(t, "known_hosts", "# a comment\n\n"+text, 0o600)
	for _, word := range []string{"ask", "accept-new", "no", "yes"} {
		yes := &fakePrompter{yes: true}
		e := failDial[*remote.HostKeyError](t, with(n.Target(), "UserKnownHostsFile", file, "StrictHostKeyChecking", word), yes)
		if e.Kind != remote.HostKeyChanged || len(e.Known) != 1 || e.Known[0].Line != 3 || e.Known[0].File != file {
			t.Errorf("%s: %+v", word, e)
		}
		for _, part := range []string{file + ":3", e.Fingerprint, e.Known[0].Fingerprint} {
			if !strings.Contains(e.Error(), part) {
				t.Errorf("%s: %q is not in %q", word, part, e.Error())
			}
		}
		if len(yes.questions()) != 0 {
			t.Errorf("%s: asked %q", word, yes.questions())
		}
	}
	// The hint works.
	e := failDial[*remote.HostKeyError](t, with(n.Target(), "UserKnownHostsFile", file), nil)
	command := e.Hint()[strings.Index(e.Hint(), "ssh-keygen"):]
	if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", command, err, out)
	}
	mustDial(t, with(n.Target(), "UserKnownHostsFile", file), &fakePrompter{yes: true})
}

func TestKnownHostsForms(t *testing.T) {
	n := testnode.Start(t)
	f := strings.Fields(readFile(t, n.KnownHosts))
	key := f[1] + " " + f[2]
	name := fmt.Sprintf("[127.0.0.1]:%d", n.Port)
	_, other := newKeyFile(t, "", "")
	otherLine := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(other)))
	for _, test := range []struct {
		what, text string
		options    []string
		kind       remote.HostKeyKind // 0: accepted
	}{
		{what: "hashed", text: knownhosts.HashHostname(name) + " " + key},
		{what: "hashed, another name", text: knownhosts.HashHostname("[127.0.0.1]:1") + " " + key, kind: remote.HostKeyUnknown},
		{what: "wildcard", text: fmt.Sprintf("[127.0.0.*]:%d %s", n.Port, key)},
		{what: "negated", text: "*,!" + name + ",!127.0.0.1 " + key, kind: remote.HostKeyUnknown},
		{what: "without the port", text: "127.0.0.1 " + key},
		{what: "without the port, another key", text: "127.0.0.1 " + otherLine, kind: remote.HostKeyUnknown},
		{what: "one of two keys", text: name + " " + otherLine + "\n" + name + " " + key},
		{what: "bad line before", text: "garbage\n@unknown x y z\n" + name + " " + key},
		{what: "crlf", text: name + " " + key + "\r"},
		{what: "revoked", text: name + " " + key + "\n@revoked * " + key, kind: remote.HostKeyRevoked},
		{what: "another is revoked", text: name + " " + key + "\n@revoked * " + otherLine},
		{what: "alias", text: "my-node " + key, options: []string{"HostKeyAlias", "My-Node"}},
		{what: "alias only", text: name + " " + key, options: []string{"HostKeyAlias", "my-node"}, kind: remote.HostKeyUnknown},
		{what: "changed alias", text: "my-node " + otherLine, options: []string{"HostKeyAlias", "my-node"}, kind: remote.HostKeyChanged},
		{what: "an authority is no key", text: "@cert-authority " + name + " " + key, kind: remote.HostKeyUnknown},
	} {
		t.Run(test.what, func(t *testing.T) {
			target := with(n.Target(), append([]string{"UserKnownHostsFile", writeFile(t, "known_hosts", test.text+"\n", 0o600)}, test.options...)...)
			if test.kind == 0 {
				mustDial(t, target, nil)
			} else if e := failDial[*remote.HostKeyError](t, target, nil); e.Kind != test.kind {
				t.Errorf("got %v", e)
			}
		})
	}
	// Several files, one of them missing, the key in the global one.
	global := writeFile(t, "global", name+" "+key+"\n", 0o600)
	mustDial(t, with(n.Target(), "UserKnownHostsFile", "/nonexistent/a /nonexistent/b", "GlobalKnownHostsFile", global), nil)
	mustDial(t, with(n.Target(), "UserKnownHostsFile", "none", "GlobalKnownHostsFile", `"`+global+`"`), nil)
}

// A server with keys of several types shows the one that is known.
func TestKnownKeyTypeIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	var config []string
	for _, kind := range []string{"ecdsa", "rsa", "ed25519"} {
		file := filepath.Join(dir, kind)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		config = append(config, "HostKey "+file)
	}
	n := testnode.Start(t, testnode.WithConfig(config...))
	for _, kind := range []string{"ecdsa", "rsa", "ed25519"} {
		name := fmt.Sprintf("[127.0.0.1]:%d ", n.Port)
		file := writeFile(t, "known_hosts", name+readFile(t, filepath.Join(dir, kind+".pub")), 0o600)
		mustDial(t, with(n.Target(), "UserKnownHostsFile", file), nil)
	}
}

// newKeyFile makes a key pair with ssh-keygen.
func newKeyFile(t *testing.T, passphrase, format string) (file string, pub ssh.PublicKey) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	args := []string{"-q", "-a", "1", "-t", "ecdsa", "-N", passphrase, "-f", file}
	if format != "" {
		args = append(args, "-m", format)
	}
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(readFile(t, file+".pub")))
	if err != nil {
		t.Fatal(err)
	}
	return file, pub
}

func TestHostCertificates(t *testing.T) {
	ca, _ := newKeyFile(t, "", "")
	host, _ := newKeyFile(t, "", "")
	sign := func(principal, validity string) {
		t.Helper()
		out, err := exec.Command("ssh-keygen", "-q", "-s", ca, "-I", "node", "-h", "-n", principal, "-V", validity, host+".pub").CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	sign("127.0.0.1", "-1h:+1h")
	n := testnode.Start(t, testnode.WithConfig("HostKey "+host, "HostCertificate "+host+"-cert.pub"))
	authority := "@cert-authority * " + readFile(t, ca+".pub")
	known := func(text string) remote.Target {
		return with(n.Target(), "UserKnownHostsFile", writeFile(t, "known_hosts", text, 0o600))
	}
	mustDial(t, known(strings.Replace(authority, "*", fmt.Sprintf("[127.0.0.1]:%d", n.Port), 1)), nil)
	mustDial(t, known(authority), nil)
	if e := failDial[*remote.HostKeyError](t, known(authority+"@revoked * "+readFile(t, ca+".pub")), nil); e.Kind != remote.HostKeyRevoked {
		t.Errorf("revoked authority: %v", e)
	}
	// Not an authority for this host, but the plain key is known.
	mustDial(t, known(fmt.Sprintf("[127.0.0.1]:%d %s", n.Port, readFile(t, host+".pub"))), nil)
	sign("elsewhere", "-1h:+1h")
	n.Restart()
	if e := failDial[*remote.HostKeyError](t, known(authority), nil); e.Kind != remote.HostKeyBadCert {
		t.Errorf("another principal: %v", e)
	}
	sign("127.0.0.1", "-2h:-1h")
	n.Restart()
	if e := failDial[*remote.HostKeyError](t, known(authority), nil); e.Kind != remote.HostKeyBadCert {
		t.Errorf("expired: %v", e)
	}
}
