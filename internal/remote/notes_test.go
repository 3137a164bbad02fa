package remote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	for text, want := range map[string][]string{
		"":                                   nil,
		"Host h\n CertificateFile ~/c\n":     {":2: CertificateFile is not obeyed: certificates for the login"},
		"Host other\n CertificateFile ~/c\n": nil,
		"PKCS11Provider none\nSecurityKeyProvider internal\nCanonicalizeHostname no\nVerifyHostKeyDNS no\n": nil,
		"PKCS11Provider /p.so\nSecurityKeyProvider /s.so\nKnownHostsCommand /k %H\n": {
			":1: PKCS11Provider", ":2: SecurityKeyProvider", ":3: KnownHostsCommand"},
		"PubkeyAcceptedAlgorithms +ssh-rsa\n":    nil,
		"PubkeyAcceptedAlgorithms ssh-ed25519\n": {"PubkeyAcceptedAlgorithms"},
		"Ciphers aes128-ctr\nHostKeyAlgorithms ssh-ed25519\nRevokedHostKeys none\nCompression yes\nForwardX11 yes\n": nil,
		"Match host h exec \"true\"\n Port 1\n":              {`Match host h exec "true"`},
		"Host h\n ProxyJump j\nHost j\n SmartcardDevice x\n": {":4: SmartcardDevice"},
		"Port x\n": nil, // Dial tells
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := Notes(Target{Host: "h", Config: file})
		if len(got) != len(want) {
			t.Errorf("%q: %q, want %q", text, got, want)
			continue
		}
		all := strings.Join(got, "\n")
		for _, w := range want {
			if !strings.Contains(all, w) {
				t.Errorf("%q: %q, want …%s…", text, got, w)
			}
		}
	}
	if (origin{val: "2048", file: "/etc/ssh/ssh_config"}).matters("RequiredRSASize") || !(origin{val: "2048", file: file}).matters("RequiredRSASize") {
		t.Error("what a distribution sets for everybody is told, or what the user sets is not")
	}
}
