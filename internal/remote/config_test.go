package remote

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// resolveIn resolves a target with text as the config of a home folder of its own.
func resolveIn(t *testing.T, text string, target Target) (*settings, string, error) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "/agent")
	t.Setenv("PLACE", "/place")
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, ".ssh", "config")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"more": "Host inc\n Port 77\n", "loop": "Include loop\n"} {
		if err := os.WriteFile(filepath.Join(home, ".ssh", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if target.Config == "" {
		target.Config = config
	}
	var log bytes.Buffer
	s, err := resolve(target, slog.New(slog.NewTextHandler(&log, nil)))
	return s, log.String(), err
}

func TestConfig(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	show := map[string]func(*settings) any{
		"host": func(s *settings) any { return s.host }, "user": func(s *settings) any { return s.user }, "port": func(s *settings) any { return s.port },
		"jump": func(s *settings) any { return s.jump }, "strict": func(s *settings) any { return s.strict }, "timeout": func(s *settings) any { return s.timeout },
		"alive": func(s *settings) any { return s.alive }, "max": func(s *settings) any { return s.aliveMax }, "agent": func(s *settings) any { return s.agentSocket },
		"only": func(s *settings) any { return s.identitiesOnly }, "batch": func(s *settings) any { return s.batch }, "name": func(s *settings) any { return s.knownName() },
		"known": func(s *settings) any { return s.knownHosts }, "global": func(s *settings) any { return s.globalHosts },
		"bind": func(s *settings) any { return s.bind }, "ciphers": func(s *settings) any { return s.algorithms.Ciphers },
		"macs": func(s *settings) any { return s.algorithms.MACs }, "kex": func(s *settings) any { return s.algorithms.KeyExchanges },
		"ways": func(s *settings) any { return fmt.Sprint(s.pubkeyAuth, s.passAuth, s.kbdAuth) },
		"keys": func(s *settings) any {
			var list []string
			for _, id := range s.identities {
				list = append(list, strings.TrimPrefix(id.path, s.home))
			}
			return strings.Join(list, " ")
		},
	}
	for _, test := range []struct {
		config string
		target Target
		want   string // name=value; …
	}{
		{"", Target{Host: "h"}, "host=h; port=22; user=" + me.Username + "; jump=; strict=ask; timeout=15s; alive=15s; max=3; agent=/agent; only=false; name=h; keys=/.ssh/id_ed25519 /.ssh/id_ecdsa /.ssh/id_rsa; global=[/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2]"},
		{"Host h\n  HostName 192.0.2.1\n  User u\n  Port 2222\n", Target{Host: "h"}, "host=192.0.2.1; user=u; port=2222; name=[192.0.2.1]:2222"},
		{"Host h\n  User u\n  Port 2222\n", Target{Host: "h", User: "me", Port: 1}, "user=me; port=1"},
		{"Host h\n  User u\n", Target{Host: "h", Options: map[string]string{"uSER": "opt"}}, "user=opt"},
		{"Host h\n  User u\n", Target{Host: "h", Config: "none"}, "user=" + me.Username},
		{"Host a\n User a\nHost *\n User star\nHost h\n User late\n", Target{Host: "h"}, "user=star"},
		{"host=h\nuser = \"u\" # a comment\nPORT=\t99\t\r\n", Target{Host: "h"}, "user=u; port=99"},
		{"Host a\th\n User u\n", Target{Host: "h"}, "user=u"},
		{"Host web* !web1\n User u\n", Target{Host: "web1", User: ""}, "user=" + me.Username},
		{"Host web* !web1\n User u\n", Target{Host: "web2"}, "user=u"},
		{"Host h\n HostName %h.example\n HostKeyAlias The-Alias\n", Target{Host: "h"}, "host=h.example; name=the-alias"},
		{"HostName 2001:db8::1\n", Target{Host: "h", Port: 23}, "name=[2001:db8::1]:23"},
		{"Host h\n IdentityFile ~/a\n IdentityFile %d/b-%h-%r-%p\nHost *\n IdentityFile ~/c%%\n IdentitiesOnly yes\n User u\n", Target{Host: "h"}, "keys=/a /b-h-u-22 /c%; only=true"},
		{"IdentityFile ~/a\n", Target{Host: "h", IdentityFile: "~/own"}, "keys=/own /a"},
		{"IdentityFile ~/a\n", Target{Host: "h", IdentityFile: "~/own", MoreIdentityFiles: []string{"~/next"}}, "keys=/own /next /a"},
		{"BindAddress 127.0.0.2\nCiphers aes128-ctr,unheard-of,aes256-gcm*\n", Target{Host: "h"}, "bind=127.0.0.2; ciphers=[aes128-ctr aes256-gcm@openssh.com]; macs=[]"},
		{"Ciphers -aes*\n", Target{Host: "h"}, "ciphers=[chacha20-poly1305@openssh.com]"},
		{"Ciphers ^aes256-ctr\n", Target{Host: "h"}, "ciphers=[aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com chacha20-poly1305@openssh.com aes128-ctr aes192-ctr]"},
		{"MACs hmac-sha2-256\n", Target{Host: "h"}, "macs=[hmac-sha2-256]"},
		{"KexAlgorithms curve25519-sha256\n", Target{Host: "h"}, "kex=[curve25519-sha256]"},
		{"IdentityFile none\n", Target{Host: "h"}, "keys="},
		{"IdentityFile \"~/a b\"\n", Target{Host: "h"}, "keys=/a b"},
		{"UserKnownHostsFile /a \"/b c\" ${PLACE}/d/%k\nGlobalKnownHostsFile none\n", Target{Host: "h"}, "known=[/a /b c /place/d/h]; global=[]"},
		{"UserKnownHostsFile /a#b # comment\n", Target{Host: "h"}, "known=[/a#b]"},
		{"StrictHostKeyChecking no\n", Target{Host: "h"}, "strict=accept-new"},
		{"StrictHostKeyChecking off\n", Target{Host: "h"}, "strict=accept-new"},
		{"StrictHostKeyChecking YES\n", Target{Host: "h"}, "strict=yes"},
		{"ConnectTimeout 1m30\nServerAliveInterval 0\nServerAliveCountMax 9\nBatchMode yes\n", Target{Host: "h"}, "timeout=1m30s; alive=0s; max=9; batch=true"},
		{"ConnectTimeout none\n", Target{Host: "h"}, "timeout=0s"},
		{"ProxyJump a,b\n", Target{Host: "h"}, "jump=a,b"},
		{"ProxyJump a,b\n", Target{Host: "h", Jump: "none"}, "jump="},
		{"ProxyCommand nc %h\nProxyJump a\n", Target{Host: "h"}, "jump=a"},
		{"ProxyCommand none\n", Target{Host: "h"}, "jump="},
		{"IdentityAgent ~/sock\n", Target{Host: "h"}, "agent={HOME}/sock"},
		{"UserKnownHostsFile known ~/own /abs\nIdentityAgent sock\n", Target{Host: "h", Dir: "/start"}, "known=[/start/known {HOME}/own /abs]; agent=/start/sock"},
		{"PreferredAuthentications publickey\n", Target{Host: "h"}, "ways=true false false"},
		{"PreferredAuthentications password,publickey\nPubkeyAuthentication no\n", Target{Host: "h"}, "ways=false true false"},
		{"IdentityAgent none\n", Target{Host: "h"}, "agent="},
		{"IdentityAgent $PLACE\n", Target{Host: "h"}, "agent=/place"},
		{"Include more\nPort 1\n", Target{Host: "inc"}, "port=77"},
		{"Include more\nPort 1\n", Target{Host: "h"}, "port=1"},
		{"Host x\n Include more\nHost *\n Port 1\n", Target{Host: "inc"}, "port=1"},
		{"Include ~/.ssh/mo* nothing\n", Target{Host: "inc"}, "port=77"},
		{"Unknown words here\nSendEnv LANG LC_*\n", Target{Host: "h"}, "port=22"},
		{"Match host a,h user u\n Port 5\nHost *\n User u\n", Target{Host: "h", User: "u"}, "port=5"},
		{"Match host h user u\n Port 5\n", Target{Host: "h", User: "v"}, "port=22"},
		{"Host h\n HostName real\nMatch host real\n Port 5\n", Target{Host: "h"}, "port=5"},
		{"Host h\n HostName real\nMatch originalhost h !host h\n Port 5\n", Target{Host: "h"}, "port=5"},
		{"Match all\n Port 5\n", Target{Host: "h"}, "port=5"},
		{"Match localuser " + me.Username + "\n Port 5\n", Target{Host: "h"}, "port=5"},
		{"Match final all\n Port 5\nMatch canonical\n Port 6\n", Target{Host: "h"}, "port=22"},
		{"Match exec \"touch /never\"\n Port 5\nMatch host h\n User u\n", Target{Host: "h"}, "port=22; user=u"},
		{"Match host h exec \"true # x\"\n Port 5\n", Target{Host: "h"}, "port=22"},
	} {
		t.Run(test.config, func(t *testing.T) {
			s, _, err := resolveIn(t, test.config, test.target)
			if err != nil {
				t.Fatal(err)
			}
			for pair := range strings.SplitSeq(test.want, "; ") {
				key, want, _ := strings.Cut(pair, "=")
				if got := fmt.Sprint(show[key](s)); got != strings.ReplaceAll(want, "{HOME}", s.home) {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
		})
	}
}

func TestMatchLeftOut(t *testing.T) {
	s, log, err := resolveIn(t, "Match exec \"x\"\n User u\n", Target{Host: "h"})
	if err != nil || log != "" || len(s.notes) != 1 || !strings.Contains(s.notes[0], "exec") || !strings.Contains(s.notes[0], "config") {
		t.Errorf("notes %q, log %q, %v", s.notes, log, err)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, test := range []struct {
		config string
		line   int
		key    string
	}{
		{"\nPort x\n", 2, "Port"},
		{"Port 0\n", 1, "Port"},
		{"Host h\n  User\n", 2, "User"},
		{"Host \"h\n", 1, "Host"},
		{"StrictHostKeyChecking perhaps\n", 1, "StrictHostKeyChecking"},
		{"IdentitiesOnly maybe\n", 1, "IdentitiesOnly"},
		{"IdentityFile a b\n", 1, "IdentityFile"},
		{"IdentityFile %Z\n", 1, "IdentityFile"},
		{"IdentityFile a%\n", 1, "IdentityFile"},
		{"IdentityFile ${NO_SUCH_VARIABLE}\n", 1, "IdentityFile"},
		{"ConnectTimeout 1y\n", 1, "ConnectTimeout"},
		{"ConnectTimeout s\n", 1, "ConnectTimeout"},
		{"ConnectTimeout 99999999999999999999\n", 1, "ConnectTimeout"},
		{"HostName -x\n", 1, "HostName"},
		{"ProxyCommand nc %h %p\n", 1, "ProxyCommand"},
		{"Ciphers unheard-of\n", 1, "Ciphers"},
		{"UserKnownHostsFile \"a\n", 1, "UserKnownHostsFile"},
		{"Include [\n", 1, "Include"},
		{"Include loop\n", 0, ""},
		{"User a\x00b\n", 1, ""},
	} {
		_, _, err := resolveIn(t, test.config, Target{Host: "h"})
		var e *ConfigError
		if !errors.As(err, &e) {
			t.Errorf("%q: got %v", test.config, err)
			continue
		}
		if e.File == "" || e.Line != test.line && test.line != 0 || e.Key != test.key {
			t.Errorf("%q: %+v", test.config, e)
		}
	}
	if _, _, err := resolveIn(t, "", Target{Host: "h", Config: "/nonexistent/config"}); err == nil || !strings.Contains(err.Error(), "/nonexistent/config") {
		t.Errorf("missing file: %v", err)
	}
	if _, _, err := resolveIn(t, "", Target{Host: "h", Options: map[string]string{"Port": "x"}}); err == nil {
		t.Error("a bad option passed")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	if _, err := resolve(Target{Host: "h"}, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("no files: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, ".ssh", "config")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(config, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := resolve(Target{Host: "h"}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a config that everybody can write passed")
	}
}

func TestParseJumps(t *testing.T) {
	got, err := parseJumps("a, u@b:23 ,ssh://[2001:db8::1]:24/,[::1]")
	want := []Target{{Host: "a"}, {User: "u", Host: "b", Port: 23}, {Host: "2001:db8::1", Port: 24}, {Host: "::1"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("Host h\n User u\nMatch host h exec x\n Port 2\nIdentityFile %d/x\n")
	f.Add("Host \"a b\" !c\nPort=1 # x\n=\nInclude\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // would read files of this machine
		}
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := resolve(Target{Host: "h", Config: file}, slog.New(slog.DiscardHandler))
		var e *ConfigError
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func FuzzKnownHosts(f *testing.F) {
	f.Add("[h]:22,*.x,!y ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmrPoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", "h")
	f.Add("|1|a|b ssh-rsa x\n@revoked * y\n", "*")
	f.Fuzz(func(t *testing.T, text, name string) {
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := readKnownHosts([]string{file}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		db.algorithms(name)
	})
}

func FuzzRevoked(f *testing.F) {
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmrPoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	f.Add("SSHKRL\n\x00")
	f.Add("# a\n\n x")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "revoked")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var db hostDB
		var e *ConfigError
		switch err := db.readRevoked(file); {
		case err != nil && (!errors.As(err, &e) || e.Hint() == ""):
			t.Errorf("%q: %v", text, err)
		case err == nil:
			for _, l := range db.lines {
				if _, revoked := db.revoked(l.key); !revoked {
					t.Errorf("%q: line %d is not revoked", text, l.line)
				}
			}
		}
	})
}

func TestWildcard(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"*", "abc", true}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"?", "a", true}, {"?", "", false},
		{"a?c", "abc", true}, {"*.x", "a.y.x", true}, {"a", "b", false}, {"", "", true}, {"", "a", false}, {"a**b", "ab", true},
		{strings.Repeat("*a", 50) + "b", strings.Repeat("a", 200), false},
	} {
		if got := wildcard(test.pattern, test.s); got != test.want {
			t.Errorf("wildcard(%q, %q) = %v", test.pattern, test.s, got)
		}
	}
}

// The clock of a connection stands still while somebody is asked.
func TestStopwatch(t *testing.T) {
	fired := make(chan struct{})
	w := newStopwatch(30*time.Millisecond, func() { close(fired) })
	w.pause()
	select {
	case <-fired:
		t.Fatal("it fired while paused")
	case <-time.After(100 * time.Millisecond):
	}
	w.resume()
	<-fired
	if !w.stop() {
		t.Error("stop does not tell that it fired")
	}
	if newStopwatch(0, nil).stop() {
		t.Error("one without a limit fired")
	}
}
