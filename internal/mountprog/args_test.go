package mountprog

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseSource(t *testing.T) {
	for text, want := range map[string]source{
		"host:":                   {host: "host"},
		"host:dir":                {host: "host", dir: "dir"},
		"u@host:/a:b":             {user: "u", host: "host", dir: "/a:b"},
		"u@corp@host:d":           {user: "u@corp", host: "host", dir: "d"},
		"[::1]:":                  {host: "::1"},
		"u@[fe80::1%eth0]:d/[x]:": {user: "u", host: "fe80::1%eth0", dir: "d/[x]:"},
		"[host]:d":                {host: "host", dir: "d"},
		"host:[x]":                {host: "host", dir: "[x]"},
		"192.0.2.1:d@e":           {host: "192.0.2.1", dir: "d@e"},
		"beef:dir":                {host: "beef", dir: "dir"},
	} {
		want.text = text
		if got, err := parseSource(text); err != nil || got != want {
			t.Errorf("%s: %+v %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":               "no ':'",
		"host":           "no ':'",
		":dir":           "host is empty",
		"u@:dir":         "host is empty",
		"@host:":         "user is empty",
		"[]:d":           "host is empty",
		"-oX=y:d":        "begin with '-'",
		"u@-x:d":         "begin with '-'",
		"-u@h:d":         "begin with '-'",
		"[-x]:d":         "begin with '-'",
		"[::1:d":         "no ']'",
		"[::1]d:":        "comes a ':'",
		"x[::1]:d":       "first character",
		"::1:d":          "in brackets",
		"fe80::1:dir":    "in brackets",
		"u@2001:db8::1:": "in brackets",
		"h:\x00":         "NUL",
	} {
		got, err := parseSource(text)
		if err == nil || !strings.Contains(err.Error(), want) || hintOf(err) == "" {
			t.Errorf("%q: %+v %v, want …%s… with a hint", text, got, err, want)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"u@h:d", "[::1]:d", "u@[::1]:", ":", "a@b@c:d:e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSource(text)
		if err != nil {
			return
		}
		if s.host == "" || s.host[0] == '-' || !strings.HasSuffix(text, ":"+s.dir) || !strings.Contains(text, s.host) {
			t.Errorf("%q: %+v", text, s)
		}
	})
}

func TestSplitOptions(t *testing.T) {
	for list, want := range map[string][]string{
		"":         {},
		"a":        {"a"},
		",a,,b=c,": {"a", "b=c"},
		`a=x\,y,b`: {"a=x,y", "b"},
		`a=x\\,b`:  {`a=x\`, "b"},
		`a=\x`:     {"a=x"},
	} {
		if got, err := splitOptions(list); err != nil || !reflect.DeepEqual(append([]string{}, got...), want) {
			t.Errorf("%s: %q %v, want %q", list, got, err, want)
		}
	}
	if _, err := splitOptions(`a\`); err == nil {
		t.Error("a backslash at the end was taken")
	}
}

func mustParse(t *testing.T, args ...string) *mountConfig {
	t.Helper()
	c, err := parseArgs(args)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return c.mount
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	m := mustParse(t, "-o", "port=2200,ro", "me@[::1]:d", "-F", "cfg", "m",
		"-ouid=7,gid=8,umask=027,allow_other,default_permissions,nonempty,noexec,reconnect,max_conns=3",
		"-o", "identityfile=key,serveraliveinterval=5,proxyjump=a\\,b,User=notme,Compression=no",
		"-o", "entry_timeout=1.5,negative_timeout=0,timeout=0,fsname=n,subtype=s,logfile=l,sshfs_debug",
		"-o", "_netdev,x-systemd.automount,noauto,user,defaults,noatime,nosuid,nodev,rw")
	if m.target.Host != "::1" || m.target.User != "me" || m.target.Port != 2200 || m.source.dir != "d" || m.mountpoint != "m" {
		t.Errorf("target %+v, source %+v, mount point %s", m.target, m.source, m.mountpoint)
	}
	if m.target.Config != filepath.Join(dir, "cfg") || m.target.IdentityFile != filepath.Join(dir, "key") || m.logfile != filepath.Join(dir, "l") {
		t.Errorf("paths: %+v %s", m.target, m.logfile)
	}
	if m.target.Jump != "a,b" || !reflect.DeepEqual(m.target.Options, map[string]string{"ServerAliveInterval": "5"}) {
		t.Errorf("ssh words: %+v", m.target)
	}
	if *m.uid != 7 || *m.gid != 8 || *m.umask != 0o27 || m.sessions != 3 || m.readOnly || !m.allowOther || !m.defaultPermissions || !m.nonempty || !m.noexec {
		t.Errorf("options: %+v", m)
	}
	if *m.entryTimeout != 1500*time.Millisecond || *m.negativeTimeout != 0 || m.attrTimeout != nil || requestTimeout(m.timeout) != -1 {
		t.Errorf("times: %+v", m)
	}
	if m.fsname != "n" || m.subtype != "s" || !m.debug || m.foreground {
		t.Errorf("names: %+v", m)
	}
	if m = mustParse(t, "h:", "m"); m.fsname != "h:" || m.foreground || m.readOnly || m.exclusive != "" || m.target.Options == nil {
		t.Errorf("defaults: %+v", m)
	}
	for _, args := range [][]string{{"-d"}, {"-f"}, {"-o", "debug"}, {"-o", "sshfs_debug"}, {"-d", "-o", "logfile=x"}} {
		if m := mustParse(t, append(args, "h:", "m", "-F", "none")...); !m.foreground || m.target.Config != "none" {
			t.Errorf("%q stays not in the foreground", args)
		}
	}
}

func TestDcache(t *testing.T) {
	for opts, want := range map[string][2]time.Duration{ // entry, attr
		"ro":                                         {-1, -1},
		"dcache_timeout=9":                           {9, 9},
		"dcache_timeout=9,entry_timeout=2":           {2, 9},
		"dcache_timeout=9,dcache_stat_timeout=3":     {9, 3},
		"dcache_dir_timeout=4":                       {4, -1},
		"dcache_link_timeout=5,attr_timeout=1":       {5, 1},
		"dcache_link_timeout=5,dcache_dir_timeout=4": {4, -1},
	} {
		m := mustParse(t, "h:", "m", "-o", opts)
		for i, got := range []*time.Duration{m.entryTimeout, m.attrTimeout} {
			if w := want[i]; w < 0 && got != nil || w >= 0 && (got == nil || *got != w*time.Second) {
				t.Errorf("%s: timeout %d is %v, want %v", opts, i, got, w)
			}
		}
	}
}

func TestWrongOptions(t *testing.T) {
	for opts, want := range map[string]string{
		"uid=me":                        "not a numeric id",
		"uid=4294967295":                "not a numeric id",
		"umask=8":                       "not an octal number",
		"umask=1000":                    "not an octal number",
		"max_conns=0":                   "1 to 64",
		"attr_timeout=-1":               "not a number of seconds",
		"attr_timeout=nan":              "not a number of seconds",
		"ro=yes":                        "takes no value",
		"fsname=":                       "needs a value",
		"ServerAliveInterval":           "needs a value",
		"allow_other,allow_root":        "exclude each other",
		"dev":                           "always nodev",
		"IdentityFile=a,IdentityFile=b": "only one",
		"exclusive=":                    "needs a value",
		"spool_max=0":                   "not a number of bytes",
		"allowother":                    "did you mean allow_other",
		"StrictHostKeyCheking=no":       "did you mean StrictHostKeyChecking",
		"RO":                            "did you mean ro",
		`ro\`:                           "last backslash",
	} {
		if c, err := parseArgs([]string{"h:", "m", "-o", opts}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v %v, want …%s…", opts, c, err, want)
		}
	}
}

// TestOptionTable keeps the table and the help in step.
func TestOptionTable(t *testing.T) {
	seen := map[string]bool{}
	help := usage()
	for _, o := range options {
		if seen[o.name] {
			t.Errorf("%s is there twice", o.name)
		}
		seen[o.name] = true
		if o.help != "" && !strings.Contains(help, "\n  "+o.name) {
			t.Errorf("%s is not in the help", o.name)
		}
	}
	for i, line := range strings.Split(help, "\n") {
		if len(line) > 132 {
			t.Errorf("line %d of the help is long: %s", i+1, line)
		}
	}
}
