package remote_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// TestRevokedHostKeys: a key of the file is refused for every host, although known_hosts has it, and
// a file that cannot be read whole lets no host pass.
func TestRevokedHostKeys(t *testing.T) {
	n := testnode.Start(t)
	f := strings.Fields(readFile(t, n.KnownHosts))
	key := f[1] + " " + f[2]
	otherFile, _ := newKeyFile(t, "", "")
	other := readFile(t, otherFile+".pub")
	krl := filepath.Join(t.TempDir(), "krl")
	if out, err := exec.Command("ssh-keygen", "-q", "-k", "-f", krl, otherFile+".pub").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	file := func(text string) string { return writeFile(t, "revoked", text, 0o600) }
	for _, test := range []struct{ what, file, want string }{
		{"the key", file("# stolen\n\n" + other + key + " a comment\n"), "revoked by"},
		{"another key", file(other), ""},
		{"nothing", file(""), ""},
		{"none", "none", ""},
		{"missing", filepath.Join(t.TempDir(), "missing"), "cannot read it"},
		{"a bad line", file(other + "garbage\n"), "revoked:2: RevokedHostKeys: not a public key"},
		{"a KRL", krl, "key revocation list"},
	} {
		t.Run(test.what, func(t *testing.T) {
			target := with(n.Target(), "RevokedHostKeys", test.file)
			if test.want == "" {
				mustDial(t, target, nil)
				return
			}
			c, err := remote.Dial(patient(t), target, remote.Options{Prompt: &fakePrompter{yes: true}})
			if err == nil {
				c.Close()
				t.Fatal("it connected")
			}
			var hint interface{ Hint() string }
			if !strings.Contains(err.Error(), test.want) || !errors.As(err, &hint) || hint.Hint() == "" {
				t.Errorf("got %v, want …%s… and a hint", err, test.want)
			}
		})
	}
	e := failDial[*remote.HostKeyError](t, with(n.Target(), "RevokedHostKeys", file(other+key)), nil)
	if e.Kind != remote.HostKeyRevoked || len(e.Known) != 1 || e.Known[0].Line != 2 {
		t.Errorf("%+v", e)
	}
}

// TestHostKeyAlgorithms: a server with two keys shows one of the kind that is named, whatever
// else is known.
func TestHostKeyAlgorithms(t *testing.T) {
	dir := t.TempDir()
	var config []string
	known := ""
	for _, kind := range []string{"ecdsa", "ed25519"} {
		file := filepath.Join(dir, kind)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		config = append(config, "HostKey "+file)
	}
	n := testnode.Start(t, testnode.WithConfig(config...))
	name := fmt.Sprintf("[127.0.0.1]:%d ", n.Port)
	known = name + readFile(t, filepath.Join(dir, "ed25519.pub"))
	target := with(n.Target(), "UserKnownHostsFile", writeFile(t, "known_hosts", known, 0o600))
	for _, list := range []string{"ssh-ed25519", "+ssh-rsa", "^ecdsa-*", "-ecdsa-*", "ecdsa-sha2-nistp256,ssh-ed25519"} {
		mustDial(t, with(target, "HostKeyAlgorithms", list), nil)
	}
	for _, list := range []string{"ecdsa-sha2-nistp256", "-ssh-ed25519*"} {
		e := failDial[*remote.HostKeyError](t, with(target, "HostKeyAlgorithms", list), nil)
		if e.Kind != remote.HostKeyChanged || e.KeyType != "ecdsa-sha2-nistp256" {
			t.Errorf("%s: %v", list, e)
		}
	}
	failDial[*remote.ConfigError](t, with(target, "HostKeyAlgorithms", "unheard-of"), nil)
}
