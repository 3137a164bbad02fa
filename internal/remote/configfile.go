package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/kevinburke/ssh_config"
)

// The ssh_config library parses lines and host patterns, but takes every word
// after "Match host" for a pattern and fails on the other criteria, and it
// reads Include files itself. So a file is normalised line by line first:
// a Match line becomes "Host *" with its criteria in the comment, an Include
// line an ordinary word, and both are then dealt with here.
const (
	matchMark    = "\x01match "
	includeWord  = "bundlefsinclude"
	hashMark     = "\x02" // a '#' within a word, which the library would take for a comment
	maxInclude   = 16     // as OpenSSH
	maxConfigLen = 4 << 20
)

// origin is a value and where it was given; file is "" for an option of the target.
type origin struct {
	val, file string
	line      int
}

func (o origin) errorf(key, format string, args ...any) error {
	return &ConfigError{File: o.file, Line: o.line, Key: key, Msg: fmt.Sprintf(format, args...)}
}

// words are the ssh_config values that hold for one host: the first value of a
// word wins, except for IdentityFile, of which all count.
type words struct {
	alias      string // the host as it was asked for
	localUser  string
	home       string
	log        *slog.Logger
	first      map[string]origin // by lower-case word
	identities []origin
	leftOut    []string // Match blocks that may have been meant, a line each
}

func (w *words) set(key string, o origin) {
	key = strings.ToLower(key)
	if key == "identityfile" {
		w.identities = append(w.identities, o)
		return
	}
	if _, ok := w.first[key]; !ok {
		w.first[key] = o
	}
}

// readConfig fills w from config as Target.Config names it.
func (w *words) readConfig(config string) error {
	switch config {
	case "none":
		return nil
	case "":
		own := filepath.Join(w.home, ".ssh", "config")
		if err := checkConfigOwner(own); err != nil {
			return err
		}
		for _, f := range []string{own, "/etc/ssh/ssh_config"} {
			if err := w.readFile(f, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	return w.readFile(expandHome(config, w.home), 0)
}

// checkConfigOwner refuses a config that others can write to: it names programs,
// keys and known_hosts files.
func checkConfigOwner(file string) error {
	st, err := os.Stat(file)
	if err != nil {
		return nil // reading it tells
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if ok && (st.Mode().Perm()&0o022 != 0 || (sys.Uid != 0 && int(sys.Uid) != os.Getuid())) {
		return &ConfigError{File: file, Msg: "others may write to it or own it", Fix: Quote("chmod", "600", file)}
	}
	return nil
}

func (w *words) readFile(file string, depth int) error {
	if depth > maxInclude {
		return &ConfigError{File: file, Msg: "too many Include levels", Fix: "does a file include itself?"}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return &ConfigError{File: file, Msg: "cannot read it", Err: err}
	}
	if len(data) > maxConfigLen {
		return &ConfigError{File: file, Msg: "it is too large for an ssh_config file"}
	}
	text, err := normalise(data, file)
	if err != nil {
		return err
	}
	cfg, err := ssh_config.DecodeBytes(text)
	if err != nil {
		return parseError(file, err)
	}
	for _, block := range cfg.Hosts {
		if criteria, ok := strings.CutPrefix(block.EOLComment, matchMark); ok {
			if !w.matches(strings.ReplaceAll(criteria, hashMark, "#"), file) {
				continue
			}
		} else if !block.Matches(w.alias) {
			continue
		}
		for _, n := range block.Nodes {
			kv, ok := n.(*ssh_config.KV)
			if !ok {
				continue
			}
			val := strings.ReplaceAll(kv.Value, hashMark, "#")
			if kv.Key == includeWord {
				if err := w.include(val, file, kv.Pos().Line, depth); err != nil {
					return err
				}
				continue
			}
			w.set(kv.Key, origin{val, file, kv.Pos().Line})
		}
	}
	return nil
}

func (w *words) include(patterns, file string, line, depth int) error {
	list, err := splitWords(patterns)
	if err != nil {
		return &ConfigError{File: file, Line: line, Key: "Include", Msg: err.Error()}
	}
	for _, p := range list {
		p = expandHome(p, w.home)
		if !filepath.IsAbs(p) {
			dir := filepath.Join(w.home, ".ssh")
			if strings.HasPrefix(file, "/etc/ssh/") {
				dir = "/etc/ssh"
			}
			p = filepath.Join(dir, p)
		}
		files, err := filepath.Glob(p)
		if err != nil {
			return &ConfigError{File: file, Line: line, Key: "Include", Msg: fmt.Sprintf("malformed pattern %q", p), Err: err}
		}
		for _, f := range files {
			if st, err := os.Stat(f); err != nil || st.IsDir() {
				continue
			}
			if err := w.readFile(f, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

var parsePos = regexp.MustCompile(`^\((\d+), \d+\): (.*)$`)

func parseError(file string, err error) error {
	e := &ConfigError{File: file, Msg: err.Error()}
	if m := parsePos.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Msg = strings.TrimPrefix(m[2], "ssh_config: ")
	}
	return e
}

// normalise writes every line as one the library reads as OpenSSH does; the
// lines keep their numbers.
func normalise(data []byte, file string) ([]byte, error) {
	if i := bytes.IndexAny(data, "\x00\x01\x02"); i >= 0 {
		return nil, &ConfigError{File: file, Line: 1 + bytes.Count(data[:i], []byte("\n")), Msg: "a control character: this is not an ssh_config file"}
	}
	var out bytes.Buffer
	for i, line := range strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		key, val := splitLine(line)
		if key != "" && val == "" {
			return nil, &ConfigError{File: file, Line: i + 1, Key: key, Msg: "it has no value"}
		}
		escaped := strings.ReplaceAll(val, "#", hashMark)
		switch strings.ToLower(key) {
		case "":
		case "host":
			list, err := splitWords(escaped)
			if err != nil {
				return nil, &ConfigError{File: file, Line: i + 1, Key: key, Msg: err.Error()}
			}
			out.WriteString("Host " + strings.Join(list, " "))
		case "match":
			out.WriteString("Host * #" + matchMark + escaped)
		case "include":
			out.WriteString(includeWord + ` "` + escaped + `"`)
		default:
			out.WriteString(key + ` "` + escaped + `"`)
		}
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// splitLine gives keyword and value of a line, both "" for an empty line. A
// comment begins with '#' at the begin of a word outside of quotes.
func splitLine(line string) (key, val string) {
	line = strings.Trim(line, " \t\r\f")
	if line == "" || line[0] == '#' {
		return "", ""
	}
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return line, ""
	}
	key, val = line[:i], strings.TrimLeft(line[i:], " \t")
	val = strings.TrimLeft(strings.TrimPrefix(val, "="), " \t")
	quoted := false
	for i := range len(val) {
		switch {
		case val[i] == '"':
			quoted = !quoted
		case val[i] == '#' && !quoted && (i == 0 || val[i-1] == ' ' || val[i-1] == '\t'):
			return key, strings.TrimRight(val[:i], " \t")
		}
	}
	return key, val
}

// splitWords splits at blanks; double quotes keep blanks together.
func splitWords(s string) ([]string, error) {
	var list []string
	var word strings.Builder
	quoted, in := false, false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted, in = !quoted, true
		case (c == ' ' || c == '\t') && !quoted:
			if in {
				list = append(list, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		list = append(list, word.String())
	}
	return list, nil
}

// matches evaluates the criteria of a Match line with what is known so far. A
// criterion that is not evaluated here, above all exec, which runs a program,
// makes the block not apply, which Notes tells.
func (w *words) matches(criteria, file string) bool {
	list, err := splitWords(criteria)
	if err != nil || len(list) == 0 {
		w.leaveOut(file, criteria, "it is malformed")
		return false
	}
	for len(list) > 0 {
		name := strings.ToLower(list[0])
		list = list[1:]
		name, negated := strings.CutPrefix(name, "!")
		name, arg, has := strings.Cut(name, "=")
		if name == "all" {
			continue
		}
		if name == "canonical" || name == "final" {
			// Names are not canonicalised, and there is no second pass.
			if !negated {
				return false
			}
			continue
		}
		if !has && len(list) > 0 {
			arg, list = list[0], list[1:]
		}
		var subject string
		switch name {
		case "host":
			subject = w.hostName()
		case "originalhost":
			subject = w.alias
		case "user":
			subject = w.localUser
			if o, ok := w.first["user"]; ok {
				subject = o.val
			}
		case "localuser":
			subject = w.localUser
		default:
			w.leaveOut(file, criteria, name+" is not supported")
			return false
		}
		if matchList(arg, subject) == negated {
			return false
		}
	}
	return true
}

// leaveOut notes a Match block that does not apply because of what we lack.
func (w *words) leaveOut(file, criteria, why string) {
	w.log.Debug("ssh_config: Match block is left out", "file", file, "match", criteria, "cause", why)
	w.leftOut = append(w.leftOut, fmt.Sprintf("%s: the block \"Match %s\" is left out: %s", file, criteria, why))
}

// hostName is the host as HostName says so far.
func (w *words) hostName() string {
	if o, ok := w.first["hostname"]; ok {
		return strings.ReplaceAll(strings.ReplaceAll(o.val, "%h", w.alias), "%%", "%")
	}
	return w.alias
}

// matchList is whether one of the comma-separated patterns matches and no
// negated one does.
func matchList(patterns, s string) bool {
	found := false
	for p := range strings.SplitSeq(patterns, ",") {
		p, negated := strings.CutPrefix(p, "!")
		if p != "" && wildcard(strings.ToLower(p), strings.ToLower(s)) {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}

// wildcard matches with * for any characters and ? for one, in linear space and
// without recursion: patterns come from files of others as well.
func wildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			p = star + 1
			mark++
			i = mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func expandHome(path, home string) string {
	if path == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	if strings.HasPrefix(path, "~") {
		name, rest, _ := strings.Cut(path[1:], "/")
		if u, err := user.Lookup(name); err == nil {
			return filepath.Join(u.HomeDir, rest)
		}
	}
	return path
}
