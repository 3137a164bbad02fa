package remote

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostLine is one line of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
type hostLine struct {
	file     string
	line     int
	marker   string   // "", "cert-authority" or "revoked"
	patterns []string // host, [host]:port, wildcards, !pattern, or one hashed name
	key      ssh.PublicKey
}

func (l *hostLine) known() KnownLine {
	return KnownLine{File: l.file, Line: l.line, KeyType: l.key.Type(), Fingerprint: ssh.FingerprintSHA256(l.key)}
}

// hostDB is what the known_hosts files say. The parser of x/crypto's knownhosts
// package gives up on a whole file for one bad line; OpenSSH, and so this one,
// goes on without the line.
type hostDB struct {
	lines []hostLine
	files []string
}

// readKnownHosts reads the files; one that is missing is as an empty one.
func readKnownHosts(files []string, log *slog.Logger) (*hostDB, error) {
	db := &hostDB{files: files}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, &ConfigError{File: file, Msg: "cannot read the known hosts", Err: err, Fix: "make it a file that you may read, or name another one with UserKnownHostsFile"}
		}
		for i, line := range bytes.Split(data, []byte("\n")) {
			line = bytes.TrimSpace(line)
			if len(line) == 0 || line[0] == '#' {
				continue
			}
			marker, hosts, key, _, _, err := ssh.ParseKnownHosts(line)
			if err != nil || (marker != "" && marker != "cert-authority" && marker != "revoked") {
				log.Debug("known_hosts line is left out", "file", file, "line", i+1, "error", err)
				continue
			}
			db.lines = append(db.lines, hostLine{file, i + 1, marker, hosts, key})
		}
	}
	return db, nil
}

// find gives the lines with the marker that match name.
func (db *hostDB) find(marker, name string) []hostLine {
	var found []hostLine
	for _, l := range db.lines {
		if l.marker == marker && matchHost(l.patterns, name) {
			found = append(found, l)
		}
	}
	return found
}

// revoked gives the line that revokes key; it counts for every host.
func (db *hostDB) revoked(key ssh.PublicKey) (KnownLine, bool) {
	for _, l := range db.lines {
		if l.marker == "revoked" && sameKey(l.key, key) {
			return l.known(), true
		}
	}
	return KnownLine{}, false
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

func matchHost(patterns []string, name string) bool {
	if len(patterns) == 1 && strings.HasPrefix(patterns[0], "|") {
		return matchHashed(patterns[0], name)
	}
	return matchList(strings.Join(patterns, ","), name)
}

// matchHashed compares with a name of the form |1|salt|HMAC-SHA1(salt, name).
func matchHashed(hashed, name string) bool {
	part := strings.Split(hashed, "|")
	if len(part) != 4 || part[1] != "1" {
		return false
	}
	salt, err1 := base64.StdEncoding.DecodeString(part[2])
	sum, err2 := base64.StdEncoding.DecodeString(part[3])
	if err1 != nil || err2 != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return hmac.Equal(mac.Sum(nil), sum)
}

// knownHostsName is host, or [host]:port for another port than 22.
func knownHostsName(host string, port int) string {
	host = strings.ToLower(host)
	if port == defaultPort {
		return host
	}
	return fmt.Sprintf("[%s]:%d", host, port)
}

// algorithms orders the host key algorithms so that the server shows a key of
// a type that is known, where it has one; certificates are asked for only where
// an authority is known. The rest follows, so that a server without a known
// type gets as far as an error that names both keys.
func (db *hostDB) algorithms(names ...string) []string {
	var known, authority []string
	for _, name := range names {
		for _, l := range db.find("", name) {
			known = append(known, algorithmsOf(l.key.Type())...)
		}
		for range db.find("cert-authority", name) {
			authority = append(authority, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01,
				ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
		}
	}
	plain := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	var order []string
	for _, a := range slices.Concat(authority, known, plain) {
		if !slices.Contains(order, a) {
			order = append(order, a)
		}
	}
	return order
}

// algorithmsOf are the signature algorithms of a key type.
func algorithmsOf(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	if slices.Contains(ssh.SupportedAlgorithms().HostKeys, keyType) {
		return []string{keyType}
	}
	return nil
}

// appendKnownHost adds a key at the end of file, which is created if need be.
func appendKnownHost(file, name string, key ssh.PublicKey, hashed bool) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("add host key: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("add host key: %w", err)
	}
	defer f.Close()
	written := name
	if hashed {
		written = knownhosts.HashHostname(name)
	}
	line := written + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + "\n"
	if st, err := f.Stat(); err == nil && st.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, st.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("add host key to %s: %w", file, err)
	}
	return f.Close()
}
