package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLoad: any text gives a file or errors that each have a place, and the
// same again the next time; what is accepted keeps the promises that others
// rely on.
func FuzzLoad(f *testing.F) {
	f.Setenv("HOME", f.TempDir())
	f.Add([]byte(example))
	f.Add([]byte(ok + "a = %(b)s\nb = %(a)s\n[jobs:j]\nx = local run 'a ; b' \\; c\n  more\n"))
	f.Add([]byte("\ufeff[DEFAULT]\r\nbundle = a/%(name)s\r\n[node:n]\r\nartifacts = x\r\nproduct = y\r\nvenv = v"))
	f.Add([]byte("[group:g]\nnodes = a b\nw=1\n[group:h]\nnodes=b\nw=2\n[node:a]\n[node:b]\nbundle=%(w)s%%\n"))
	check := func(s Step) error {
		if len(s.Args) > 3 {
			return errors.New("too many")
		}
		return nil
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("deploy.ini", text, check)
		again, err2 := Parse("deploy.ini", text, check)
		if render(err) != render(err2) {
			t.Fatalf("first %s, then %s", render(err), render(err2))
		}
		if err != nil {
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("no Errors: %v", err)
			}
			lines := bytes.Count(text, []byte("\n")) + 1
			for i, e := range all {
				if e.File != "deploy.ini" || e.Line < 1 || e.Line > lines || e.Msg == "" || i > 0 && e.Line < all[i-1].Line {
					t.Fatalf("misplaced error %+v", *e)
				}
			}
			return
		}
		for i, n := range file.Nodes() {
			if !reflect.DeepEqual(n.attrs, again.nodes[i].attrs) {
				t.Fatalf("node %s differs when read again", n.Name)
			}
			for _, path := range []string{n.Bundle(), n.Venv()} {
				if slices.Contains(strings.Split(path, "/"), "..") || path != "" && strings.Contains("/-~.", path[:1]) && (path[0] != '.' || path == ".") {
					t.Fatalf("node %s: unsafe path %q", n.Name, path)
				}
			}
			if n.Bundle() == "" || n.Host() == "" || strings.HasPrefix(n.Host(), "-") || n.Port() < 0 || n.Port() > 65535 || n.MountPoint() == "" {
				t.Fatalf("node %s: %q %q %d %q", n.Name, n.Bundle(), n.Host(), n.Port(), n.MountPoint())
			}
			for _, key := range n.Keys() {
				if o := n.Origin(key); o.Line < 1 && o.Section != "built-in" {
					t.Fatalf("node %s: %s has no origin", n.Name, key)
				}
			}
			for _, list := range file.JobLists() {
				steps, err := n.Jobs(list)
				if err != nil && (list != Install || file.list(Install) != nil) {
					t.Fatalf("node %s: list %s: %v", n.Name, list, err)
				}
				for _, s := range steps {
					if s.Host != Local && s.Host != Remote || s.Line < 1 {
						t.Fatalf("step %+v", s)
					}
				}
			}
		}
	})
}

// quote writes a word so that Split gives it back, in the style asked for.
func quote(word string, style byte) string {
	switch style % 3 {
	case 0:
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	case 1:
		return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(word) + `"`
	}
	// A backslash takes a newline away, and a blank at a line's end is trimmed.
	if word == "" || strings.ContainsAny(word, "\n \t") {
		return quote(word, 0)
	}
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		b.WriteByte('\\')
		b.WriteByte(word[i])
	}
	return b.String()
}

// FuzzSplit: any words that are quoted are given back; any text is split
// without harm, and its words quoted are split into the same.
func FuzzSplit(f *testing.F) {
	f.Add(`a 'b c' "d\"e" \f`, byte(0))
	f.Add("x\\\ny ''\"\" \t", byte(1))
	f.Add(`it's`, byte(2))
	f.Fuzz(func(t *testing.T, text string, style byte) {
		one, err := Split(quote(text, style) + quote("", style) + " " + quote(text, style+1))
		if err != nil || !slices.Equal(one, []string{text, text}) {
			t.Fatalf("%q quoted gives %q, %v", text, one, err)
		}
		words, err := Split(text)
		if err != nil {
			return
		}
		var quoted []string
		for i, w := range words {
			quoted = append(quoted, quote(w, style+byte(i)))
		}
		again, err := Split(strings.Join(quoted, "\n"))
		if err != nil || !slices.Equal(again, words) {
			t.Fatalf("%q gives %q, again %q, %v", text, words, again, err)
		}
		// A job line that is split without error was cut at no quoted comment.
		if line := "a = local run " + strings.Join(quoted, " "); utf8.ValidString(line) && !strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
			p := &problems{}
			sections := scan("f", "[jobs:j]\n"+line, p)
			if len(p.list) > 0 {
				t.Fatalf("%q: %v", line, p.errors())
			}
			if got, err := Split(sections[0].entries[0].value); err != nil || !slices.Equal(got[2:], words) {
				t.Fatalf("%q gives %q, %v, want %q", line, got, err, words)
			}
		}
	})
}

// TestSplitLikeShell compares with the words that sh makes of the same text.
func TestSplitLikeShell(t *testing.T) {
	for _, text := range []string{
		"", "  ", "a", " a  b\tc ", `''`, `"" ''`, `a''b`, `'a b'"c d"e\ f`, `"a\"b\\c\d\$e"`, `'a\b'`, `\'\"\\`,
		"a\\\nb c", "\"a\\\nb\"", "'a\nb'", "a\\\tb", `"it's"`, "\"\\`\"",
	} {
		out, err := exec.Command("sh", "-c", `set -f; eval "set -- $1"; for w in "$@"; do printf '%s\0' "$w"; done`, "sh", text).Output()
		if err != nil {
			t.Fatalf("sh: %v", err)
		}
		want := strings.Split(string(out), "\x00")
		want = want[:len(want)-1]
		if got, err := Split(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("Split(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	if got, err := Split("a\nb"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("a newline separates words: %q, %v", got, err)
	}
}

// TestScanLikePython compares sections, keys and values with Python's
// configparser, whose rules deploy.ini follows.
func TestScanLikePython(t *testing.T) {
	texts := []string{
		example[:strings.Index(example, "[jobs:")],
		ok + "a = x ; y # z\nb = x # y ; z\nc = x;y\nd=\n e = 1\nf = a\n\n  b\n\n\ng = 1\n",
		ok + "a =\n  x\n\n  ; comment\n  y # comment\n\n  # comment\n\nb = c = d\n; x\nc = [x]\n  [y]\n",
		"  [DEFAULT]\n  bundle = b\n    c\n  d = e\n [node:x]\n   y = z\n   w = v\n",
		ok + "a = \"x ; y\"\nb = 'x'\nc = `x\n",
	}
	const program = `
import configparser, json, sys
out = []
for text in json.load(sys.stdin):
    p = configparser.RawConfigParser(delimiters=("=",), inline_comment_prefixes=(";", "#"), default_section="\0")
    p.optionxform = str
    p.read_string(text)
    out.append([[s, [[k, v] for k, v in p.items(s)]] for s in p.sections()])
json.dump(out, sys.stdout)`
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-I", "-c", program)
	cmd.Stdin = bytes.NewReader(in)
	raw, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, raw)
	}
	var want [][][]any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		p := &problems{}
		var got [][]any
		for _, s := range scan("f", text, p) {
			entries := []any{}
			for _, e := range s.entries {
				entries = append(entries, []any{e.key, e.value})
			}
			got = append(got, []any{s.origin.Section, entries})
		}
		// configparser keeps the empty line before a value that begins on the next.
		for _, s := range want[i] {
			for _, e := range s[1].([]any) {
				e.([]any)[1] = strings.TrimLeft(e.([]any)[1].(string), "\n")
			}
		}
		if len(p.list) > 0 || !reflect.DeepEqual(got, want[i]) {
			t.Errorf("%q:\n got %v %v\nwant %v", text, got, p.errors(), want[i])
		}
	}
}
