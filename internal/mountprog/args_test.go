package mountprog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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

// FuzzOptions: whatever is given with -o, it is refused, or what the OpenSSH client is started with
// has the host and nothing else in the place of the host.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{"ro,port=2", `ssh_command=ssh 'a b',ProxyCommand=x\,y`, "ssh_command=a,User=-x,sftp_server=-y", "idmap=file,uidfile=~/x", "workaround=a:b,umask=7,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseArgs([]string{"me@h:", "/m", "-o", text})
		if err != nil || c.mount.sshCommand == nil {
			return
		}
		args := c.mount.sshArgs()[len(c.mount.sshCommand):]
		host := slices.Index(args, "me@h")
		if host < 0 {
			t.Fatalf("%q: no host in %q", text, args)
		}
		for _, a := range args[:host] {
			if !strings.HasPrefix(a, "-o") && a != "-x" && a != "-a" {
				t.Errorf("%q: %q in %q", text, a, args)
			}
		}
		if rest := args[host+1:]; len(rest) != 1 && (len(rest) != 2 || rest[0] != "-s") || len(rest) == 1 && !strings.Contains(rest[0], "/") {
			t.Errorf("%q: %q behind the host", text, rest)
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

func TestWrongOptions(t *testing.T) {
	for opts, want := range map[string]string{
		"uid=me":                             "not a numeric id",
		"uid=4294967295":                     "not a numeric id",
		"umask=8":                            "not an octal number",
		"umask=1000":                         "not an octal number",
		"max_conns=0":                        "1 to 64",
		"attr_timeout=-1":                    "not a number of seconds",
		"attr_timeout=nan":                   "not a number of seconds",
		"ro=yes":                             "takes no value",
		"fsname=":                            "needs a value",
		"ServerAliveInterval":                "needs a value",
		"allow_other,allow_root":             "exclude each other",
		"ssh_protocol=1":                     "only 2",
		"ssh_command=":                       "needs a value",
		"ssh_command='a":                     "into words",
		"idmap=all":                          "not a value it can have",
		"idmap=file":                         "needs a file",
		"uidfile=x":                          "are for idmap=file",
		"nomap=ignore":                       "are for idmap=file",
		"dir_cache=maybe":                    "not yes or no",
		"compression=9":                      "not yes or no",
		"workaround=rename:magic":            "unknown workaround",
		"loglevel=loud":                      "not a value it can have",
		"max_read=1":                         "4096 to",
		"modules=iconv":                      "no module",
		"from_code=latin1":                   "not converted",
		"passive,directport=1":               "exclude each other",
		"passive,max_conns=2":                "one connection only",
		"passive,password_stdin":             "not the one who logs in",
		"directport=1,sftp_server=x":         "there already",
		"exclusive=x,delay_connect":          "owner record",
		"follow_symlinks,transform_symlinks": "no symlinks to transform",
		"ProxyCommand=x":                     "does not know this word",
		"exclusive=":                         "needs a value",
		"cache_max=-1":                       "not a number of bytes",
		"spool_max=0":                        "not a number of bytes",
		"allowother":                         "did you mean allow_other",
		"StrictHostKeyCheking=no":            "did you mean StrictHostKeyChecking",
		"RO":                                 "did you mean ro",
		`ro\`:                                "last backslash",
	} {
		if c, err := parseArgs([]string{"h:", "m", "-o", opts}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v %v, want …%s…", opts, c, err, want)
		}
	}
}

// optionTests show what each option does to the configuration of the mount, which is then
// package fs's and remote's to obey. Options without effect are not here.
var optionTests = map[string]struct {
	value string // "" for an option without one
	set   func(m *mountConfig) bool
}{
	"port":           {"2200", func(m *mountConfig) bool { return m.target.Port == 2200 }},
	"delay_connect":  {"", func(m *mountConfig) bool { return m.fs.DelayConnect }},
	"max_conns":      {"3", func(m *mountConfig) bool { return m.sessions == 3 }},
	"timeout":        {"7", func(m *mountConfig) bool { return requestTimeout(m.timeout) == 7*time.Second }},
	"no_check_root":  {"", func(m *mountConfig) bool { return m.fs.NoCheckRoot }},
	"password_stdin": {"", func(m *mountConfig) bool { return m.passwordStdin }},
	"compression":    {"yes", func(m *mountConfig) bool { return len(m.notes) == 1 }},

	"sftp_server": {"/a b", func(m *mountConfig) bool { return m.sftpServer == "/a b" }},
	"ssh_command": {"'a b' c -o d", func(m *mountConfig) bool {
		return reflect.DeepEqual(m.sshArgs(), []string{"a b", "c", "-o", "d", "-x", "-a", "-oClearAllForwardings=yes", "-oServerAliveInterval=15", "-oServerAliveCountMax=3", "h", "-s", "sftp"})
	}},
	"directport": {"5", func(m *mountConfig) bool { return m.directPort == 5 }},
	"passive":    {"", func(m *mountConfig) bool { return m.passive && m.foreground }},

	"ro":       {"", func(m *mountConfig) bool { return m.readOnly }},
	"rw":       {"", func(m *mountConfig) bool { return !m.readOnly }},
	"nonempty": {"", func(m *mountConfig) bool { return m.nonempty }},
	"noexec":   {"", func(m *mountConfig) bool { return strings.Contains(strings.Join(m.kernelOptions(), ","), "noexec") }},
	"exec":     {"", func(m *mountConfig) bool { return !m.noexec }},
	"fsname":   {"n", func(m *mountConfig) bool { return m.fsname == "n" }},
	"subtype":  {"s", func(m *mountConfig) bool { return m.subtype == "s" }},
	"subdir":   {"/sub", func(m *mountConfig) bool { return m.root() == "d/sub" }},
	"setuid":   {"nobody", func(m *mountConfig) bool { return m.setuid == "nobody" }},

	"uid":                 {"7", func(m *mountConfig) bool { return *m.uid == 7 }},
	"gid":                 {"8", func(m *mountConfig) bool { return *m.gid == 8 }},
	"umask":               {"027", func(m *mountConfig) bool { return *m.umask == 0o27 }},
	"idmap":               {"user", func(m *mountConfig) bool { return m.fs.IDMap == "user" }},
	"uidfile":             {"/u,idmap=file", func(m *mountConfig) bool { return m.uidFile == "/u" }},
	"gidfile":             {"/g,idmap=file", func(m *mountConfig) bool { return m.gidFile == "/g" }},
	"nomap":               {"ignore,idmap=file,uidfile=/u", func(m *mountConfig) bool { return m.fs.NoMap == "ignore" }},
	"allow_other":         {"", func(m *mountConfig) bool { return m.allowOther }},
	"allow_root":          {"", func(m *mountConfig) bool { return m.allowRoot }},
	"default_permissions": {"", func(m *mountConfig) bool { return m.defaultPermissions }},

	"contain_symlinks":    {"", func(m *mountConfig) bool { return *m.fs.ContainSymlinks }},
	"no_contain_symlinks": {"", func(m *mountConfig) bool { return !*m.fs.ContainSymlinks }},
	"follow_symlinks":     {"", func(m *mountConfig) bool { return m.fs.FollowSymlinks }},
	"transform_symlinks":  {"", func(m *mountConfig) bool { return m.fs.TransformSymlinks }},
	"disable_hardlink":    {"", func(m *mountConfig) bool { return m.fs.DisableHardlink }},

	"entry_timeout":       {"1.5", func(m *mountConfig) bool { return *m.entryTimeout == 1500*time.Millisecond }},
	"attr_timeout":        {"2", func(m *mountConfig) bool { return *m.attrTimeout == 2*time.Second }},
	"negative_timeout":    {"3", func(m *mountConfig) bool { return *m.negativeTimeout == 3*time.Second }},
	"kernel_cache":        {"", func(m *mountConfig) bool { return m.fs.KernelCache }},
	"auto_cache":          {"", func(m *mountConfig) bool { return !m.fs.NoAutoCache }},
	"noauto_cache":        {"", func(m *mountConfig) bool { return m.fs.NoAutoCache }},
	"direct_io":           {"", func(m *mountConfig) bool { return m.fs.DirectIO }},
	"dir_cache":           {"no", func(m *mountConfig) bool { return !*m.fs.DirCache }},
	"dcache_timeout":      {"5", func(m *mountConfig) bool { return *m.fs.DcacheTimeout == 5*time.Second }},
	"dcache_stat_timeout": {"6", func(m *mountConfig) bool { return *m.fs.DcacheStatTimeout == 6*time.Second }},
	"dcache_link_timeout": {"7", func(m *mountConfig) bool { return *m.fs.DcacheLinkTimeout == 7*time.Second }},
	"dcache_dir_timeout":  {"8", func(m *mountConfig) bool { return *m.fs.DcacheDirTimeout == 8*time.Second }},
	"dcache_max_size":     {"9", func(m *mountConfig) bool { return m.fs.DcacheMaxSize == 9 }},

	"sshfs_sync":   {"", func(m *mountConfig) bool { return m.fs.SyncWrites }},
	"no_readahead": {"", func(m *mountConfig) bool { return m.fs.NoReadahead }},
	"sync_readdir": {"", func(m *mountConfig) bool { return m.fs.SyncReaddir }},
	"max_read":     {"8192,max_write=2000000", func(m *mountConfig) bool { return m.fs.MaxRead == 8192 && m.fs.MaxWrite == 1<<20 }},
	"max_write":    {"16384", func(m *mountConfig) bool { return m.fs.MaxWrite == 16384 }},

	"exclusive": {"T", func(m *mountConfig) bool { return m.exclusive == "T" }},
	"cache_max": {"0", func(m *mountConfig) bool { return m.cacheMax == -1 }},
	"nomount":   {"", func(m *mountConfig) bool { return m.nomount }},
	"spool_max": {"12", func(m *mountConfig) bool { return m.spoolMax == 12 }},

	"logfile":       {"/l", func(m *mountConfig) bool { return m.logfile == "/l" }},
	"loglevel":      {"info", func(m *mountConfig) bool { return m.logLevel == "info" }},
	"debug":         {"", func(m *mountConfig) bool { return m.debug && m.foreground }},
	"sshfs_debug":   {"", func(m *mountConfig) bool { return m.debug && m.foreground }},
	"sshfs_verbose": {"", func(m *mountConfig) bool { return m.verbose }},
}

// TestOptionTable: each option is in the help, and does what it is there for; each of its names
// is taken. Those without effect leave the configuration as it is.
func TestOptionTable(t *testing.T) {
	seen := map[string]bool{}
	help := usage()
	plain := mustParse(t, "h:d", "m")
	for _, o := range options {
		if o.help == "" || !slices.Contains(groups, o.group) || !strings.Contains(help, "\n  "+o.name) {
			t.Errorf("%s is not in the help", o.name)
		}
		test, has := optionTests[o.name]
		if without := o.group == groupNone || o.name == "reconnect" || o.name == "ssh_protocol"; has == without {
			t.Errorf("%s: is its effect tested %v", o.name, has)
		}
		if !has {
			test.value = unusedValue(o)
		}
		for _, name := range append([]string{o.name}, o.also...) {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
			word := name
			if o.arg != "" {
				word += "=" + test.value
			} else if name == "nomount" {
				word += ",exclusive=T"
			}
			switch m := mustParse(t, "h:d", "m", "-o", word); {
			case has && !test.set(m):
				t.Errorf("%s has no effect", word)
			case !has && (!reflect.DeepEqual(m.fs, plain.fs) || !reflect.DeepEqual(m.target, plain.target) || m.readOnly || m.noexec || m.foreground):
				t.Errorf("%s has an effect", word)
			}
		}
	}
	for i, line := range strings.Split(help, "\n") {
		if len(line) > 132 {
			t.Errorf("line %d of the help is long: %s", i+1, line)
		}
	}
}

// TestSSHWords: what is obeyed goes to package remote, where of two the first counts; what
// another program is to obey goes to it; nothing is left out in silence.
func TestSSHWords(t *testing.T) {
	m := mustParse(t, "me@h:", "m", "-o", "IdentityFile=/a,identityfile=/b,IdentityFile=/c,Ciphers=x,ciphers=y,User=you,PreferredAuthentications=publickey,ControlMaster=no,ChallengeResponseAuthentication=no")
	if m.target.IdentityFile != "/a" || !reflect.DeepEqual(m.target.MoreIdentityFiles, []string{"/b", "/c"}) || m.target.User != "me" {
		t.Errorf("%+v", m.target)
	}
	if want := map[string]string{"Ciphers": "x", "PreferredAuthentications": "publickey", "KbdInteractiveAuthentication": "no"}; !reflect.DeepEqual(m.target.Options, want) {
		t.Errorf("%v, want %v", m.target.Options, want)
	}
	m = mustParse(t, "me@[::1]:", "m", "-C", "-p", "5", "-F", "/cfg", "-o", `ssh_command=ssh -v,proxycommand=nc %h\,x,ServerAliveInterval=1,sftp_server=/x y`)
	want := []string{"ssh", "-v", "-x", "-a", "-oClearAllForwardings=yes", "-F", "/cfg", "-oPort=5", "-oCompression=yes",
		"-oProxyCommand=nc %h,x", "-oServerAliveInterval=1", "-oServerAliveInterval=15", "-oServerAliveCountMax=3", "me@::1", "/x y"}
	if got := m.sshArgs(); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	mustParse(t, "h:", "m", "-o", "directport=5,ProxyCommand=x")
	for _, w := range slices.Concat(sshWords, sshIgnored, sshOthers) {
		if got := sshWord(strings.ToUpper(w)); got != w {
			t.Errorf("%s is taken for %q", w, got)
		}
		if o := findOption(w); o != nil && w != "Compression" {
			t.Errorf("%s is an option of bundlefs, too", w)
		}
	}
}

func TestHelperArgs(t *testing.T) {
	for args, want := range map[string]string{
		"u@h:d /m -o rw,_netdev":          "u@h:d /m -o rw,_netdev",
		"bundlefs#u@h:d /m -sfnv -orw":    "u@h:d /m --sloppy --fake -v -o rw",
		"h: /m -N ns -t fuse.bundlefs -o": "h: /m -o ",
		"h: /m -no rw -tx":                "h: /m -o rw",
		"-v h: /m":                        "-v h: /m",
	} {
		if got := strings.Join(helperArgs(strings.Split(args, " ")), " "); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

func TestReadIDs(t *testing.T) {
	lookup := func(name string) (string, error) {
		if name != "me" {
			return "", errors.New("unknown user " + name)
		}
		return "7", nil
	}
	file := filepath.Join(t.TempDir(), "ids")
	for text, want := range map[string]string{
		"me:1000\n# all\n\n 5 : 6 # five\n": "map[5:6 7:1000]",
		"":                                  "map[]",
		"me 1000":                           "ids:1: \"me 1000\" has no ':'",
		"1:2\nyou:3":                        "ids:2: unknown user you",
		"me:x":                              "ids:1: \"x\" is not a number",
		"1:2\n1:3":                          "ids:2: 1 is given twice",
		"1:2\n3:2":                          "ids:2: 2 on the node is given twice, first in line 1",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ids, err := readIDs(file, lookup)
		got := fmt.Sprint(ids)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if err := os.Chmod(file, 0o662); err != nil {
		t.Fatal(err)
	}
	if _, err := readIDs(file, lookup); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Error(err)
	}
	if ids, err := readIDs("", lookup); ids != nil || err != nil {
		t.Errorf("without a file: %v %v", ids, err)
	}
}
