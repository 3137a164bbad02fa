package deploy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ok is what a file needs besides the lines under test.
const ok = "[DEFAULT]\nbundle=b\nvenv=v\n[node:n]\n"

// TestErrors has one case for each rule; the text follows ok, so its first line
// is line 5. An error is written as Error() gives it, then "| " and its hint.
func TestErrors(t *testing.T) {
	setHome(t)
	const host = "write an IPv4 or IPv6 address, a host name or an alias of ~/.ssh/config"
	const below = "write a path below the home on the node, such as bundle-1.0"
	const hop = "write [user@]host[:port], several separated by commas, or none"
	const percent = "write %(name)s for a variable, and %% for a percent sign"
	const step = "write NAME = HOST OP ARGUMENT…"
	for _, c := range []struct{ text, want string }{
		// Text and scanning
		{"a = \xff", "deploy.ini:5: the text is not valid UTF-8| save the file as UTF-8"},
		{"a = b\x00c", `deploy.ini:5: [node:n]: control character '\x00' in column 6| remove it`},
		{"ä\u009b", `deploy.ini:5: [node:n]: control character '\u009b' in column 2| remove it`},
		{"a = b\rc", `deploy.ini:5: [node:n]: control character '\r' in column 6| remove it`},
		{"word", `deploy.ini:5: [node:n]: no "=" in "word"| write "key = value", and indent a line that continues a value`},
		{"a: b", `deploy.ini:5: [node:n]: no "=" in "a: b"| write "key = value", and indent a line that continues a value`},
		{"= b", `deploy.ini:5: [node:n]: no key before "="| write "key = value"`},
		{"a b = c", `deploy.ini:5: [node:n]: malformed key "a b"| a key is made of letters, digits, ".", "_" and "-"`},
		{"é = c", `deploy.ini:5: [node:n]: malformed key "é"| a key is made of letters, digits, ".", "_" and "-"`},
		{"-a = c", `deploy.ini:5: [node:n]: malformed key "-a"| a key is made of letters, digits, ".", "_" and "-"`},
		{"a = 1\nb = 2\na = 3", "deploy.ini:7: [node:n] a: key given twice, first in line 5| remove one of them"},
		{"[node:n]", "deploy.ini:5: [node:n]: section given twice, first in line 4| put all keys under one header"},
		{"[DEFAULT]", "deploy.ini:5: [DEFAULT]: section given twice, first in line 1| put all keys under one header"},
		{"[default]", "deploy.ini:5: [default]: unknown section| did you mean [DEFAULT]?"},
		{"[nodes:x]", "deploy.ini:5: [nodes:x]: unknown section| did you mean [node:NAME]?"},
		{"[job:x]", "deploy.ini:5: [job:x]: unknown section| did you mean [jobs:NAME]?"},
		{"[web]", "deploy.ini:5: [web]: unknown section| the sections are [DEFAULT], [group:NAME], [node:NAME] and [jobs:NAME]"},
		{"[]", "deploy.ini:5: unknown section| the sections are [DEFAULT], [group:NAME], [node:NAME] and [jobs:NAME]"},
		{"[node]", "deploy.ini:5: [node]: the section has no name| write [node:NAME]"},
		{"[node:m", `deploy.ini:5: malformed section header "[node:m"| a header is alone on its line, such as [node:NAME]`},
		{"[node:m] x", `deploy.ini:5: malformed section header "[node:m] x"| a header is alone on its line, such as [node:NAME]`},
		{"[node:]", `deploy.ini:5: [node:]: malformed name ""| ` + nameRule},
		{"[node: m]", `deploy.ini:5: [node: m]: malformed name " m"| ` + nameRule},
		{"[node:-m]", `deploy.ini:5: [node:-m]: malformed name "-m"| ` + nameRule},
		{"[node:..]", `deploy.ini:5: [node:..]: malformed name ".."| ` + nameRule},
		{"[group:a/b]", `deploy.ini:5: [group:a/b]: malformed name "a/b"| ` + nameRule},
		{"[group:all]\nnodes=n", `deploy.ini:5: [group:all]: the group "all" is always all nodes| choose another name, or put the keys in [DEFAULT]`},
		{"a = 1\n [node:m]", "deploy.ini:6: [node:n]: the section header [node:m] is indented, which makes it part of the value above| begin the line with the bracket"},

		// Keys
		{"name = x", "deploy.ini:5: [node:n] name: name is always the node's name| rename the section, or choose another key"},
		{"nodes = x", "deploy.ini:5: [node:n] nodes: only a group has nodes| put it in a section [group:NAME], or choose another key"},
		{"sshd.prot = 1", `deploy.ini:5: [node:n] sshd.prot: unknown key| did you mean "sshd.port"?`},
		{"sshd.something = 1", "deploy.ini:5: [node:n] sshd.something: unknown key| the keys are: sshd.config, sshd.ip, sshd.jump, sshd.port, sshd.timeout"},
		{"sshd.timeout = 0.1s", `deploy.ini:5: [node:n] sshd.timeout: malformed duration "0.1s"| write it as 30, 30s or 2m: 1s to 24h`},
		{"Admin = x", "deploy.ini:5: [node:n] Admin: differs from admin only in upper and lower case| write admin, or choose another key"},
		{"SSHD.Port = 1", "deploy.ini:5: [node:n] SSHD.Port: differs from sshd.port only in upper and lower case| write sshd.port, or choose another key"},

		// Groups
		{"[group:g]", "deploy.ini:5: [group:g] nodes: the group names no nodes| write nodes = NODE…"},
		{"[group:g]\nnodes =", "deploy.ini:6: [group:g] nodes: the group names no nodes| write nodes = NODE…, or remove the group"},
		{"[group:g]\nnodes = n n", `deploy.ini:6: [group:g] nodes: node "n" is named twice| name it once`},
		{"[group:g]\nnodes = n elsewhere", `deploy.ini:6: [group:g] nodes: unknown node "elsewhere"| add a section [node:elsewhere]`},
		{"[group:g]\nnodes = nn", `deploy.ini:6: [group:g] nodes: unknown node "nn"| add a section [node:nn]`},
		{"[group:g]\nnodes = n,m", `deploy.ini:6: [group:g] nodes: malformed node name "n,m"| separate the names by blanks; ` + nameRule},
		{"[group:g]\nnodes=n\nw=1\n[group:h]\nnodes=n\nw=2",
			`deploy.ini:10: [group:h] w: "2" differs from "1" in [group:g] (line 7), and the same node is in both groups| give it in the node's own section, or take the node out of one of the groups`},

		// Substitution
		{"a = %(nome)s", `deploy.ini:5: [node:n] a: unknown variable "nome"| did you mean "name"?`},
		{"a = %(whatever)s", `deploy.ini:5: [node:n] a: unknown variable "whatever"| `},
		{"a = x%(a)s", "deploy.ini:5: [node:n] a: circular variables: a → a| give one of them a value without the others"},
		{"a = %(b)s\nb = %(c)s\nc = %(b)s", "deploy.ini:7: [node:n] c: circular variables: b → c → b| give one of them a value without the others"},
		{"a = 50%", `deploy.ini:5: [node:n] a: "%" is neither a variable nor a percent sign| ` + percent},
		{"a = %(name)", `deploy.ini:5: [node:n] a: "%(name)" is neither a variable nor a percent sign| ` + percent},
		{"a = %name", `deploy.ini:5: [node:n] a: "%name" is neither a variable nor a percent sign| ` + percent},
		{"a = " + strings.Repeat("x", maxValue+1), "deploy.ini:5: [node:n] a: longer than 65536 bytes after substitution| "},

		// Attributes
		{"sshd.port = x", `deploy.ini:5: [node:n] sshd.port: malformed port "x"| write a number from 1 to 65535`},
		{"sshd.port = 0", `deploy.ini:5: [node:n] sshd.port: malformed port "0"| write a number from 1 to 65535`},
		{"sshd.port = 65536", `deploy.ini:5: [node:n] sshd.port: malformed port "65536"| write a number from 1 to 65535`},
		{"sshd.port = +22", `deploy.ini:5: [node:n] sshd.port: malformed port "+22"| write a number from 1 to 65535`},
		{"sshd.config = maybe", `deploy.ini:5: [node:n] sshd.config: malformed value "maybe"| write yes or no`},
		{"sshd.ip =", "deploy.ini:5: [node:n] sshd.ip: empty| leave it out to use the node's name as the host"},
		{"sshd.ip = -oProxyCommand", `deploy.ini:5: [node:n] sshd.ip: malformed host "-oProxyCommand": begins with "-"| ` + host},
		{"sshd.ip = a b", `deploy.ini:5: [node:n] sshd.ip: malformed host "a b"| ` + host},
		{"sshd.ip = u@h", `deploy.ini:5: [node:n] sshd.ip: malformed host "u@h"| give the user as admin`},
		{"sshd.ip = h:22", `deploy.ini:5: [node:n] sshd.ip: malformed host "h:22"| write sshd.ip = h and sshd.port = 22`},
		{"sshd.ip = fe80::zz", `deploy.ini:5: [node:n] sshd.ip: malformed host "fe80::zz"| ` + host},
		{"sshd.ip = [192.0.2.1]", `deploy.ini:5: [node:n] sshd.ip: malformed host "[192.0.2.1]"| ` + host},
		{"sshd.ip = a\n b", `deploy.ini:5: [node:n] sshd.ip: malformed host "a\nb"| ` + host},
		{"sshd.jump = a,,b", `deploy.ini:5: [node:n] sshd.jump: malformed jump host "": the host| ` + hop},
		{"sshd.jump = a,-b", `deploy.ini:5: [node:n] sshd.jump: malformed jump host "-b": the host| ` + hop},
		{"sshd.jump = @b", `deploy.ini:5: [node:n] sshd.jump: malformed jump host "@b": the user| ` + hop},
		{"sshd.jump = a:99999", `deploy.ini:5: [node:n] sshd.jump: malformed jump host "a:99999": malformed port "99999"| ` + hop},
		{"admin = -l", `deploy.ini:5: [node:n] admin: malformed user "-l"| write the login name on the node`},
		{"admin = a b", `deploy.ini:5: [node:n] admin: malformed user "a b"| write the login name on the node`},
		{"admin = $(id)", `deploy.ini:5: [node:n] admin: malformed user "$(id)"| write the login name on the node`},
		{"op_key = -x", `deploy.ini:5: [node:n] op_key: malformed key "-x"| write WORD for ~/.ssh/id_ed25519-WORD and its like, or the path of an identity file`},
		{"op_key = ~me/x", `deploy.ini:5: [node:n] op_key: malformed key "~me/x"| write WORD for ~/.ssh/id_ed25519-WORD and its like, or the path of an identity file`},
		{"python =", `deploy.ini:5: [node:n] python: malformed command ""| write the name or the path of the node's python, such as python3`},
		{"python = -c", `deploy.ini:5: [node:n] python: malformed command "-c"| write the name or the path of the node's python, such as python3`},
		{"bundle =", "deploy.ini:5: [node:n] bundle: empty path| " + below},
		{"bundle = /tmp/x", `deploy.ini:5: [node:n] bundle: malformed path "/tmp/x": it is not relative to the home| ` + below},
		{"bundle = a/../b", `deploy.ini:5: [node:n] bundle: malformed path "a/../b": it has ".."| ` + below},
		{"bundle = .", `deploy.ini:5: [node:n] bundle: malformed path ".": it is the home itself| ` + below},
		{"bundle = ./", `deploy.ini:5: [node:n] bundle: malformed path "./": it is the home itself| ` + below},
		{"bundle = ./a", `deploy.ini:5: [node:n] bundle: malformed path "./a": it has parts without a meaning| write a`},
		{"bundle = a//b/", `deploy.ini:5: [node:n] bundle: malformed path "a//b/": it has parts without a meaning| write a/b`},
		{"bundle = ~/a", `deploy.ini:5: [node:n] bundle: malformed path "~/a": begins with "~"| ` + below},
		{"bundle = -a", `deploy.ini:5: [node:n] bundle: malformed path "-a": begins with "-"| ` + below},
		{"mount = none\nbundle = a\n  b", `deploy.ini:6: [node:n] bundle: malformed path "a\nb": it has a character that cannot be printed| ` + below},
		{"mount = none\nbundle = a\u202eb", `deploy.ini:6: [node:n] bundle: malformed path "a\u202eb": it has a character that cannot be printed| ` + below},
		{"bundle = " + strings.Repeat("x", 256), `deploy.ini:5: [node:n] bundle: malformed path "` + strings.Repeat("x", 60) + `…": a part of it is too long| ` + below},
		{"venv = ../v", `deploy.ini:5: [node:n] venv: malformed path "../v": it has ".."| ` + below},
		{"venv = b/v", `deploy.ini:5: [node:n] venv: venv "b/v" and bundle "b" are the same or inside each other| keep them apart: closing the bundle removes it with all that is in it`},
		{"venv = b", `deploy.ini:5: [node:n] venv: venv "b" and bundle "b" are the same or inside each other| keep them apart: closing the bundle removes it with all that is in it`},
		{"mount =", `deploy.ini:5: [node:n] mount: malformed mount point "": it is empty| write an absolute path, one below ~/, or none`},
		{"mount = here", `deploy.ini:5: [node:n] mount: malformed mount point "here": it is not absolute| write an absolute path, one below ~/, or none`},
		{"mount = ~other/x", `deploy.ini:5: [node:n] mount: malformed mount point "~other/x": it is not absolute| write an absolute path, one below ~/, or none`},
		{"mount = /", `deploy.ini:5: [node:n] mount: malformed mount point "/": it would hide all that is there| write an absolute path, one below ~/, or none`},
		{"mount = /m\n[node:m]\nmount = /m/", "deploy.ini:7: [node:m] mount: /m is already the mount point of node n| put %(name)s into it"},
		{"mount = /m\n[node:m]\nmount = /m/x/y", "deploy.ini:7: [node:m] mount: /m/x/y is inside the mount point of node n| keep the mount points apart"},

		// Job lists
		{"[jobs:j]", "deploy.ini:5: [jobs:j]: the job list has no steps| write NAME = HOST OP ARGUMENT…, or remove the section"},
		{"[jobs:j]\na = local run 'x", `deploy.ini:6: [jobs:j] a: unterminated quote in "local run 'x"| ` + quoteHint},
		{"[jobs:j]\na = local run 'x\n; dedented\n y'", `deploy.ini:6: [jobs:j] a: unterminated quote in "local run 'x"| ` + quoteHint + "\n" +
			`deploy.ini:8: [jobs:j]: no "=" in "y'"| write "key = value", and indent a line that continues a value`},
		{`[jobs:j]` + "\n" + `a = local run x\`, `deploy.ini:6: [jobs:j] a: nothing follows the backslash at the end in "local run x\\"| ` + quoteHint},
		{"[jobs:j]\na = lokal run", `deploy.ini:6: [jobs:j] a: unknown host "lokal"| did you mean "local"?`},
		{"[jobs:j]\na =", `deploy.ini:6: [jobs:j] a: unknown host ""| ` + step + ", where HOST is local or remote"},
		{"[jobs:j]\na = remote", "deploy.ini:6: [jobs:j] a: the step has no op| " + step},
		{"[jobs:j]\na = local run\na = local run", "deploy.ini:7: [jobs:j] a: key given twice, first in line 6| remove one of them"},
		{"[jobs:j]\na = local run %(nope_at_all)s", `deploy.ini:6: [jobs:j] a: unknown variable "nope_at_all"| `},
		{"artifacts = 'x\nproduct = p", `deploy.ini:5: [node:n] artifacts: unterminated quote| ` + quoteHint},
		{"artifacts =\nproduct = p", `deploy.ini:5: [node:n] artifacts: empty, and the default job list needs it| `},
	} {
		_, err := Parse("deploy.ini", []byte(ok+c.text+"\n"), nil)
		if got := render(err); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", shorten(c.text), got, c.want)
		}
	}
}

func render(err error) string {
	var all Errors
	if !errors.As(err, &all) {
		return fmt.Sprint(err)
	}
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Error()+"| "+e.Hint)
	}
	return strings.Join(lines, "\n")
}

// TestAccepted has the near misses of TestErrors that are right.
func TestAccepted(t *testing.T) {
	home := setHome(t)
	for _, c := range []struct{ line, key, want string }{
		{"sshd.ip = ::1", "host", "::1"},
		{"sshd.ip = [::1]", "host", "::1"},
		{"sshd.ip = fe80::1%%eth0", "host", "fe80::1%eth0"},
		{"sshd.ip = web_1.example-x.org", "host", "web_1.example-x.org"},
		{"", "host", "n"},
		{"sshd.port = 65535", "port", "65535"},
		{"sshd.port =", "port", "0"},
		{"sshd.jump = u@a:22,[::1]:2,::1,none.example", "jump", "u@a:22,[::1]:2,::1,none.example"},
		{"sshd.jump = none", "jump", "none"},
		{"sshd.config = no", "config", "false"},
		{"admin = CORP\\someone@x", "user", "CORP\\someone@x"},
		{"python = /opt/py 3/bin/python3", "python", "/opt/py 3/bin/python3"},
		{"bundle = a b/.c/-d", "bundle", "a b/.c/-d"},
		{"mount = ~/x/../y", "mount", home + "/y"},
		{"mount = none", "mount", "none"},
		{"a = x;y#z", "a", "x;y#z"},
		{"a = \"x\" 'y'", "a", "\"x\" 'y'"},
		{"a = x\t# y ; z", "a", "x"},
		{"a = x ; y # z", "a", "x"},
		{"a = b = c", "a", "b = c"},
		{"a = `x", "a", "`x"},
		{"a = x\\", "a", "x\\"},
		{"a =", "a", ""},
		{"a =\n x\n y", "a", "x\ny"},
		{"a = x\n\n  y ; z\n ; gone\n\tw\n\nb = 1", "a", "x\n\ny\nw"},
		{"  a = x\n  b = y", "a", "x"},
		{"x = %(mount)s", "x", home + "/b/n"},
		{"a = %(b)s%(b)s\nb = %(c)s%%(c)s\nc = z", "a", "z%(c)sz%(c)s"},
		{"; only a comment\n# and another", "name", "n"},
		{"a = x\r\n  y\r", "a", "x\ny"},
	} {
		text := ok + c.line + "\n"
		for _, text := range []string{text, "\ufeff" + text, strings.ReplaceAll(strings.ReplaceAll(text, "\r", ""), "\n", "\r\n"), strings.TrimSuffix(text, "\n")} {
			f, err := Parse("deploy.ini", []byte(text), nil)
			if err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			n := f.nodes[0]
			got, isAttr := n.Attr(c.key)
			switch c.key {
			case "host":
				got = n.Host()
			case "port":
				got = fmt.Sprint(n.Port())
			case "jump":
				got = n.Jump()
			case "config":
				got = fmt.Sprint(n.UseSSHConfig())
			case "user":
				got = n.User()
			case "mount":
				got = n.MountPoint()
			default:
				if !isAttr {
					t.Errorf("%q: no attribute %s", text, c.key)
				}
			}
			if got != c.want {
				t.Errorf("%q: %s = %q, want %q", text, c.key, got, c.want)
			}
		}
	}
}

// TestWholeFileErrors has what is no matter of one line.
func TestWholeFileErrors(t *testing.T) {
	setHome(t)
	var laughs strings.Builder
	laughs.WriteString(ok)
	for i := range 2000 {
		fmt.Fprintf(&laughs, "a%d = %s\n", i, strings.Repeat("%(x)s", 3))
	}
	laughs.WriteString("x = " + strings.Repeat("x", 20000))
	many := strings.Repeat("word\n", 2*maxErrors)
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "deploy.ini:1: the file has no node| add a section [node:NAME]"},
		{"no section", "a = 1\nb = 2\n[node:n]\nbundle=b\n", "deploy.ini:1: text before the first section| put [DEFAULT] or [node:NAME] above it"},
		{"no bundle", "[node:n]\n[node:m]\n", "deploy.ini:1: [node:n] bundle: missing| give bundle = PATH, relative to the home on the node, in [DEFAULT] or here\n" +
			"deploy.ini:2: [node:m] bundle: missing| give bundle = PATH, relative to the home on the node, in [DEFAULT] or here"},
		{"one error in DEFAULT", "[DEFAULT]\nbundle=b\na=%(x)s\n[node:n]\n[node:m]\n", `deploy.ini:3: [DEFAULT] a: unknown variable "x"| `},
		{"error on some nodes", "[DEFAULT]\nbundle=b\na=%(longname)s\n[node:n]\nlongname=\n[node:m]\n[node:o]\n", `deploy.ini:3: [DEFAULT] a: unknown variable "longname" (nodes m, o)| `},
		{"error on many nodes", "[DEFAULT]\nbundle=b\na=%(longname)s\n[node:n]\nlongname=\n[node:m]\n[node:o]\n[node:p]\n[node:q]\n", `deploy.ini:3: [DEFAULT] a: unknown variable "longname" (nodes m, o, p and 1 more)| `},
		{"venv needed", "[DEFAULT]\nbundle=b\n[node:n]\n[jobs:j]\na = remote pip x\nb = local python m:f\n", "deploy.ini:5: [jobs:j] a: remote pip needs the attribute venv| give venv = PATH, relative to the home on the node"},
		{"same mount by DEFAULT", "[DEFAULT]\nbundle=b\nmount=/m\n[node:n]\n[node:m]\n", "deploy.ini:3: [DEFAULT] mount: /m is already the mount point of node n (node m)| put %(name)s into it"},
		{"circle through a default", "[node:n]\nbundle=%(mount)s\n", "deploy.ini:1: [node:n] mount: circular variables: bundle → mount → bundle| give one of them a value without the others"},
		{"sorted by line", "[node:n]\nbundle=..\nsshd.port=x\nword\n", `deploy.ini:2: [node:n] bundle: malformed path "..": it has ".."| write a path below the home on the node, such as bundle-1.0` + "\n" +
			`deploy.ini:3: [node:n] sshd.port: malformed port "x"| write a number from 1 to 65535` + "\n" +
			`deploy.ini:4: [node:n]: no "=" in "word"| write "key = value", and indent a line that continues a value`},
		{"too much", laughs.String(), "deploy.ini:1: too large: nodes times attributes and steps pass the limit| give fewer nodes or attributes, or split the file"},
	} {
		_, err := Parse("deploy.ini", []byte(c.text), nil)
		if got := render(err); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	_, err := Parse("deploy.ini", []byte("[node:n]\nbundle=b\n"+many), nil)
	var all Errors
	if !errors.As(err, &all) || len(all) != maxErrors+1 || all[maxErrors].Error() != "deploy.ini:103: 100 more errors from here on" {
		t.Errorf("many errors: %d, last %v", len(all), all[len(all)-1])
	}
	t.Setenv("HOME", "")
	_, err = Parse("deploy.ini", []byte("[node:n]\nbundle=b\n"), nil)
	if want := `deploy.ini:1: [node:n] mount: malformed mount point "b/n": the user's home is not known| write an absolute path, one below ~/, or none`; render(err) != want {
		t.Errorf("no home:\n got %s\nwant %s", render(err), want)
	}
}
