package remote_test

import (
	"os/exec"
	"strings"
	"testing"

	"bundlefs/internal/remote"
)

func TestQuote(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{""}, "''"},
		{[]string{"ls", "-l", "/a/b_c.d-e"}, "ls -l /a/b_c.d-e"},
		{[]string{"a b", "c"}, "'a b' c"},
		{[]string{"it's"}, `'it'\''s'`},
		{[]string{"$HOME", "`x`", "$(y)", "*"}, "'$HOME' '`x`' '$(y)' '*'"},
		{[]string{"A=b", "A=b"}, "'A=b' A=b"},
		{[]string{"if", "~", "#", "!"}, "'if' '~' '#' '!'"},
		{[]string{"\n", "\t", "\\"}, "'\n' '\t' '\\'"},
		{[]string{"\xff\xfe"}, "'\xff\xfe'"},
		{[]string{"é"}, "'é'"},
	} {
		if got := remote.Quote(test.args...); got != test.want {
			t.Errorf("Quote(%q) = %s, want %s", test.args, got, test.want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "$(rm -rf x)", "a\nb\n", "--", "A=b", "\xff", "%s\\n", "\r", "''", "!x", "~root", "\x1b[0m"} {
		f.Add(s, "second word")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) {
			return // no program can get it: Start refuses such a command
		}
		out, err := exec.Command("/bin/sh", "-c", remote.Quote("printf", `%s\0`, a, b)).Output()
		if err != nil {
			t.Fatalf("%q %q: %v", a, b, err)
		}
		if string(out) != a+"\x00"+b+"\x00" {
			t.Errorf("%q %q came out as %q", a, b, out)
		}
	})
}
