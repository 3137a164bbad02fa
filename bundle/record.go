package bundle

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bundlefs/internal/lease"
)

// RecordName is the owner record's file name in the bundle.
const RecordName = lease.RecordName

// maxRecord bounds what is read of a record that a node sends; the scripts send a byte more, so
// that a larger one is noticed.
const maxRecord = 64 << 10

// Record says who holds a bundle. It is JSON in [RecordName], mode 0600.
type Record struct {
	Token   string    `json:"token"` // 256 random bits in hexadecimal
	User    string    `json:"user"`
	Host    string    `json:"host"` // the workstation
	PID     int       `json:"pid"`
	Above   int       `json:"above"` // how many of the folders above the bundle were made with it; written on the node
	Time    time.Time `json:"time"`
	Node    string    `json:"node"`   // the node's name in deploy.ini
	Deploy  string    `json:"deploy"` // path of deploy.ini on the workstation
	Message string    `json:"message,omitempty"`
}

// Who names the holder: user@host, the process, and the deploy.ini.
func (r *Record) Who() string {
	s := r.User + "@" + r.Host
	if r.PID != 0 {
		s += fmt.Sprintf(" pid %d", r.PID)
	}
	if r.Deploy != "" {
		s += " with " + r.Deploy
	}
	return s
}

var tokenForm = regexp.MustCompile(`^[0-9a-f]{32,128}$`)

func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return hex.EncodeToString(b[:])
}

func newRecord(cfg *Config) *Record {
	r := &Record{
		Token: newToken(), PID: os.Getpid(), Time: time.Now().UTC().Truncate(time.Second),
		Node: clean(cfg.Node), Deploy: clean(cfg.Deploy), Message: clean(cfg.Message),
	}
	if u, err := user.Current(); err == nil {
		r.User = clean(u.Username)
	} else {
		r.User = fmt.Sprintf("uid %d", os.Getuid())
	}
	if h, err := os.Hostname(); err == nil {
		r.Host = clean(h)
	}
	return r
}

// unfinishedName is that of the record while it is written: who sees it knows that the bundle is
// of the one who knows the token, and not what that is.
func (r *Record) unfinishedName() string { return ".conc-owner-" + lease.Hash(r.Token) }

// encode gives the record as it is sent to the node, one line for each value: that with the token
// is what the removal looks for, "above" is filled in there: see removeScript and lockScript.
func (r *Record) encode() []byte {
	c := *r
	c.Above = 0
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil { // a struct of strings, numbers and a time of this century
		panic(err)
	}
	return append(b, '\n')
}

// parseRecord reads a record that a node sent. It is not trusted: its texts
// are stripped of what could act on a terminal, and shortened.
func parseRecord(b []byte) (*Record, error) {
	if len(b) > maxRecord {
		return nil, fmt.Errorf("its owner record is larger than %d bytes", maxRecord)
	}
	if len(b) == 0 {
		return nil, errors.New("its owner record is empty")
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, errors.New("its owner record is not readable as JSON")
	}
	if !tokenForm.MatchString(r.Token) {
		return nil, errors.New("its owner record has no token")
	}
	for _, s := range []*string{&r.User, &r.Host, &r.Node, &r.Deploy, &r.Message} {
		*s = clean(*s)
	}
	r.PID, r.Above = max(r.PID, 0), max(r.Above, 0)
	return &r, nil
}

// clean makes text from elsewhere fit to be shown in one line: control and
// format characters (which include the ones that turn the reading direction)
// become spaces, and it is cut at 200 characters.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, c := range s {
		if n++; n > 200 {
			b.WriteString("…")
			break
		}
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			c = ' '
		}
		b.WriteRune(c)
	}
	return strings.TrimSpace(b.String())
}
