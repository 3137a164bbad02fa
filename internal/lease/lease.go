// Package lease knows the owner record of a bundle as far as both sides of the
// lock need it: package bundle, which writes it, and the mount program, which
// proves by it that a bundle is still its own.
package lease

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// RecordName is the owner record's file name in the bundle.
const RecordName = ".conc-owner.json"

// Prefix begins every lease name.
const Prefix = ".conc-lease-"

// Hash is what names things of a lock on the node: it is made of the token, and tells nobody what
// that is.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

// Name is the n-th lease name of a token, from 1: a symbolic link in the user's home on the node,
// through which the holder of the lock reaches the bundle. One of them exists at a time. It goes
// first when the lock is broken, and the next one takes its place when a connection was given up:
// so what is still under way by an old name reaches nothing any more.
func Name(token string, n int) string { return NamePrefix(token) + strconv.Itoa(n) }

// NamePrefix is what all lease names of a token begin with.
func NamePrefix(token string) string { return Prefix + Hash(token) + "-" }

// ErrNotOurs says that a bundle has another owner, or none.
var ErrNotOurs = errors.New("the bundle is not ours")

// SpoolsVariable is the environment variable by which conc says below which folder a mount program
// keeps its spool: the one that the bundle has had from its opening on.
const SpoolsVariable = "BUNDLEFS_SPOOLS"

// StateHome is the user's folder for what must not be lost: $XDG_STATE_HOME where that is absolute,
// by default ~/.local/state (XDG Base Directory Specification).
func StateHome() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err == nil && !filepath.IsAbs(home) {
		err = fmt.Errorf("HOME is not absolute: %q", home)
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state"), nil
}

// Spool is the folder that keeps what a mount under the token has not sent yet, below a folder such
// as that of StateHome. It is found again by the token, and tells nobody what that is.
func Spool(dir, token string) string { return filepath.Join(dir, "bundlefs", "spool-"+Hash(token)) }

// FindSpool is where the spool of a token is, or is to be: below the folder that conc names, or
// StateHome; or below the user's folder for caches, where former versions have left it.
func FindSpool(token string) (string, error) {
	if dir := os.Getenv(SpoolsVariable); filepath.IsAbs(dir) {
		return Spool(dir, token), nil
	}
	if cache, err := os.UserCacheDir(); err == nil {
		former := Spool(cache, token)
		if info, err := os.Lstat(former); err == nil && info.IsDir() {
			return former, nil
		}
	}
	dir, err := StateHome()
	if err != nil {
		return "", err
	}
	return Spool(dir, token), nil
}

// Check reads the owner record and compares its token. The error is ErrNotOurs if
// the record is gone or another's; any other is read's.
func Check(token string, read func(name string) ([]byte, error)) error {
	data, err := read(RecordName)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: its owner record is gone", ErrNotOurs)
	}
	if err != nil {
		return fmt.Errorf("read the owner record: %w", err)
	}
	var record struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return fmt.Errorf("%w: its owner record cannot be read: %v", ErrNotOurs, err)
	}
	if subtle.ConstantTimeCompare([]byte(record.Token), []byte(token)) != 1 {
		return fmt.Errorf("%w: it has another owner", ErrNotOurs)
	}
	return nil
}
