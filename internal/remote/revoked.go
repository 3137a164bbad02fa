package remote

import (
	"bytes"
	"os"

	"golang.org/x/crypto/ssh"
)

// krlMagic begins a key revocation list (PROTOCOL.krl of OpenSSH).
var krlMagic = []byte("SSHKRL\n\x00")

// readRevoked adds the keys of a RevokedHostKeys file, one in a line, as revoked ones that count
// for every host. As with ssh, a file that cannot be read whole lets no host pass.
func (db *hostDB) readRevoked(file string) error {
	bad := func(line int, msg string, err error) error {
		return &ConfigError{File: file, Line: line, Key: "RevokedHostKeys", Msg: msg, Err: err,
			Fix: "it has to be a text file with one public key in a line; without it no host is trusted"}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return bad(0, "cannot read it", err)
	}
	if bytes.HasPrefix(data, krlMagic) {
		return &ConfigError{File: file, Key: "RevokedHostKeys", Msg: "it is a key revocation list (KRL), which is not supported",
			Fix: "name a text file with one public key in a line, or have the OpenSSH client connect: bundlefs -o ssh_command=ssh"}
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			return bad(i+1, "not a public key", err)
		}
		if cert, ok := key.(*ssh.Certificate); ok {
			key = cert.Key
		}
		db.lines = append(db.lines, hostLine{file: file, line: i + 1, marker: "revoked", key: key})
	}
	return nil
}
