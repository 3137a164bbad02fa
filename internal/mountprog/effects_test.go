package mountprog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// effect shows on real mounts what options, or flags, do.
type effect struct {
	names string // of the options
	show  func(t *testing.T, s *stage)
	by    func(t *testing.T) // a test of its own, in place of show
}

// stage is a folder that is mounted through a program, as by -o ssh_command. The program keeps
// what it is asked.
type stage struct {
	*bench
	data    string // what is mounted
	program string
}

func newStage(t *testing.T, uid int) *stage {
	b := newUser(t, uid)
	s := &stage{b, filepath.Join(b.dir, "data"), filepath.Join(b.dir, "server")}
	script := "#!/bin/sh\ncd " + b.dir + "\necho $$ >>pids\nprintf '%s\\n' \"$@\" >arguments\necho greetings >&2\nexec " + sftpServer(t) + " -e -l DEBUG3 2>>asked\n"
	err := errors.Join(os.Mkdir(s.data, 0o755), os.WriteFile(s.program, []byte(script), 0o755))
	for name, text := range map[string]string{"file": "old", "other": "other", "script": "#!/bin/sh\n"} {
		err = errors.Join(err, os.WriteFile(s.there(name), []byte(text), 0o755))
	}
	err = errors.Join(err, os.MkdirAll(s.there("sub/below/deep"), 0o755), os.Symlink("file", s.there("link")))
	if err != nil {
		t.Fatal(err)
	}
	// Whose times are long past, so that a change shows.
	long := time.Now().Add(-time.Hour)
	for _, name := range []string{"", "file", "other", "script", "sub", "sub/below", "link", "sub/below/deep"} {
		err = errors.Join(err, os.Lchown(s.there(name), uid, -1))
		if name != "link" {
			err = errors.Join(err, os.Chtimes(s.there(name), long, long))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) here(name string) string  { return filepath.Join(s.mountpoint, name) }
func (s *stage) there(name string) string { return filepath.Join(s.data, name) }

func (s *stage) args(options string) []string {
	a := []string{"me@h:" + s.data, s.mountpoint, "-o", "ssh_command=" + s.program}
	if options != "" {
		a = append(a, "-o", options)
	}
	return a
}

// with mounts with the options, and unmounts afterwards.
func (s *stage) with(options string, use func()) {
	s.t.Helper()
	s.mountedBy(use, s.args(options)...)
}

func (s *stage) mountedBy(use func(), args ...string) {
	s.t.Helper()
	s.must("bundlefs", args...)
	pid := s.status().PID
	use()
	s.must("bundlefs", "unmount", s.mountpoint)
	s.gone(pid)
}

// kept is what the program has kept in a file since it was asked last.
func (s *stage) kept(name string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	text := readString(s.t, file)
	if err := os.Truncate(file, 0); err != nil {
		s.t.Fatal(err)
	}
	return text
}

// killServer ends the program that is connected.
func (s *stage) killServer() {
	s.t.Helper()
	pid, _ := strconv.Atoi(strings.TrimSpace(s.kept("pids")))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// change writes a file on the node and keeps its time if the text is as long as before.
func (s *stage) change(name, text string) {
	s.t.Helper()
	st, err := os.Stat(s.there(name))
	if err == nil {
		err = os.WriteFile(s.there(name), []byte(text), 0o755)
	}
	if err == nil && int(st.Size()) == len(text) {
		err = os.Chtimes(s.there(name), st.ModTime(), st.ModTime())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// inSecret changes names, and leaves the times of the folder and of the link as they were.
func (s *stage) inSecret(change func() error) {
	s.t.Helper()
	var st unix.Stat_t
	err := errors.Join(unix.Stat(s.data, &st), change())
	then := []unix.Timespec{st.Mtim, st.Mtim}
	err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, s.data, then, 0), unix.UtimesNanoAt(unix.AT_FDCWD, s.there("link"), then, unix.AT_SYMLINK_NOFOLLOW))
	if err != nil {
		s.t.Fatal(err)
	}
}

// read is a file of the mount, or the error.
func (s *stage) read(name string) string {
	raw, err := os.ReadFile(s.here(name))
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func (s *stage) size(name string) int64 {
	s.t.Helper()
	st, err := os.Lstat(s.here(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return st.Size()
}

func (s *stage) list() string {
	s.t.Helper()
	entries, err := os.ReadDir(s.mountpoint)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func (s *stage) want(what, got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (s *stage) contains(what, got, want string) {
	s.t.Helper()
	if !strings.Contains(got, want) {
		s.t.Errorf("%s: %q, want …%s…", what, got, want)
	}
}

// effects are those of all options that have one.
var effects = slices.Concat(linkEffects, mountEffects, cacheEffects, dataEffects)

// TestEffects shows the effect of each option and flag on a mount. One without a test fails, and
// one without an effect is taken by a mount that works.
func TestEffects(t *testing.T) {
	shown := map[string]bool{}
	for _, e := range effects {
		for name := range strings.FieldsSeq(e.names) {
			if shown[name] {
				t.Errorf("%s is shown twice", name)
			}
			shown[name] = true
		}
		if e.show != nil {
			t.Run(strings.ReplaceAll(e.names, " ", ","), func(t *testing.T) { e.show(t, newStage(t, os.Getuid())) })
		} else if e.by == nil {
			t.Errorf("%s: there is no test", e.names)
		}
	}
	var words []string
	for _, o := range options {
		if o.group != groupNone {
			if !shown[o.name] {
				t.Errorf("no test shows the effect of -o %s", o.name)
			}
			delete(shown, o.name)
			continue
		}
		for _, name := range append([]string{o.name}, o.also...) {
			if value := unusedValue(o); o.arg != "" {
				name += "=" + value
			}
			words = append(words, name)
		}
	}
	f, _, _, _, _ := flags()
	f.VisitAll(func(fl *pflag.Flag) {
		if name := dashed(fl); !fl.Hidden && !shown[name] {
			t.Errorf("no test shows the effect of %s", name)
		} else {
			delete(shown, name)
		}
	})
	if len(shown) > 0 {
		t.Errorf("there are no such options: %v", shown)
	}
	t.Run("without effect", func(t *testing.T) {
		s := newStage(t, os.Getuid())
		s.with(strings.Join(words, ","), func() {
			s.want("reading", s.read("file"), "old")
			s.must("cp", s.here("file"), s.here("copy"))
		})
	})
}

var linkEffects = []effect{
	{names: "port -p -F password_stdin sftp_server", by: TestEffectsOfSSH},
	{names: "-o ssh_command", by: TestSSHCommand},
	{names: "passive", by: TestPassive},
	{names: "directport", by: TestDirectPort},
	{names: "-f -d", by: TestForeground},
	{names: "-h -V --json --prometheus", by: TestCommandLine},
	{names: "delay_connect", show: func(t *testing.T, s *stage) {
		s.mountedBy(func() { s.contains("a node that is not there", s.read("file"), "input/output error") },
			"h:", s.mountpoint, "-o", "ssh_command=false,delay_connect")
	}},
	{names: "timeout", show: func(t *testing.T, s *stage) {
		s.with("timeout=0.2,dir_cache=no", func() {
			if err := os.WriteFile(s.program, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			s.killServer()
			await(t, "requests fail in time", func() bool { return strings.Contains(s.read("file"), "timed out") })
		})
	}},
	{names: "reconnect", show: func(t *testing.T, s *stage) {
		s.with("reconnect,dir_cache=no", func() {
			s.killServer()
			await(t, "the server was started again", func() bool { return s.read("file") == "old" && s.kept("pids") != "" })
		})
	}},
	{names: "max_conns", show: func(t *testing.T, s *stage) {
		for options, want := range map[string]int{"max_conns=3": 3, "": 1} {
			s.with(options, func() {
				s.read("file")
				if pids := strings.Fields(s.kept("pids")); len(pids) != want {
					t.Errorf("%s: %d connections", options, len(pids))
				}
			})
		}
	}},
	{names: "no_check_root subdir", show: func(t *testing.T, s *stage) {
		s.with("subdir=sub/below", func() { s.want("subdir", s.list(), "deep") })
		s.with("subdir=new,no_check_root", func() {
			if err := errors.Join(os.Mkdir(s.there("new"), 0o755), os.WriteFile(s.there("new/file"), []byte("late"), 0o644)); err != nil {
				t.Fatal(err)
			}
			await(t, "the folder is there", func() bool { return s.read("file") == "late" })
		})
	}},
	{names: "compression -C", show: func(t *testing.T, s *stage) {
		for _, args := range [][]string{{"-o", "compression=yes"}, {"-C"}, {"-o", "compression=no"}} {
			s.mountedBy(func() {}, append(s.args(""), args...)...)
			want := "\n-oCompression=yes\n"
			if args[len(args)-1] == "compression=no" {
				want = "\n-oCompression=no\n"
			}
			s.contains("given to the program", s.kept("arguments"), want)
		}
		// Who connects itself says that it does not.
		if r := s.run("bundlefs", ":"+s.data, s.mountpoint, "-o", "passive,compression=yes"); !strings.Contains(r.err, "not compressed") {
			t.Error(r.err)
		}
	}},
	{names: "ssh_protocol", show: func(t *testing.T, s *stage) {
		s.with("ssh_protocol=2", func() { s.want("reading", s.read("file"), "old") })
		s.refused("ssh_protocol=1", refusal{args: s.args("ssh_protocol=1"), code: ExitUsage, cause: "only 2 is", hint: "leave the option out"})
	}},
	{names: "logfile loglevel sshfs_verbose sshfs_debug -v", show: func(t *testing.T, s *stage) {
		file := s.file("log", "")
		for _, c := range []struct {
			args     []string
			greeting bool // what the program says, of level info
			requests bool
		}{
			{nil, false, false},
			{[]string{"-o", "loglevel=info"}, true, false},
			{[]string{"-o", "sshfs_verbose"}, true, false},
			{[]string{"-v"}, true, false},
			{[]string{"-v", "-o", "loglevel=error"}, false, false},
			{[]string{"-o", "sshfs_debug"}, true, true},
		} {
			s.mountedBy(func() { s.read("file") }, append(s.args("logfile="+file), c.args...)...)
			log := s.kept("log")
			if strings.Contains(log, "greetings") != c.greeting || strings.Contains(log, "LOOKUP") != c.requests {
				t.Errorf("%q: %s", c.args, log)
			}
		}
	}},
	{names: "debug", show: func(t *testing.T, s *stage) {
		p := s.start("bundlefs", s.args("debug")...)
		s.mounted()
		s.read("file")
		s.must("bundlefs", "unmount", s.mountpoint)
		if p.wait(); !strings.Contains(p.err.String(), "LOOKUP") {
			t.Errorf("no requests in %s", p.err.String())
		}
	}},
	{names: "-s", show: func(t *testing.T, s *stage) {
		file := s.file("log", "")
		s.mountedBy(func() {
			s.must("sh", "-c", `for i in 1 2 3 4 5 6 7 8; do cat "$1" "$2" & done; wait`, "sh", s.here("file"), s.here("other"))
		}, append(s.args("sshfs_debug,direct_io,logfile="+file), "-s")...)
		// Each request has its answer before the next one comes.
		last := ""
		for _, line := range regexp.MustCompile(`msg="?([rt]x) (\d+): +(\S+)`).FindAllStringSubmatch(s.kept("log"), -1) {
			if line[3] == "INTERRUPT" || line[3] == "FORGET" || line[3] == "BATCH_FORGET" {
				continue
			}
			if line[1] == "rx" && last != "" || line[1] == "tx" && line[2] != last {
				t.Fatalf("%s while %q was answered", line[0], last)
			}
			if last = line[2]; line[1] == "tx" {
				last = ""
			}
		}
	}},
}

var mountEffects = []effect{
	{names: "ro rw exec noexec nonempty fsname subtype uid gid umask", by: TestMountWithOptions},
	{names: "setuid", by: TestSetUID},
	{names: "allow_other allow_root default_permissions", by: TestWhoMayUse},
	{names: "idmap uidfile gidfile nomap", show: func(t *testing.T, s *stage) {
		me := strconv.Itoa(s.uid)
		owner := func() string { return s.run("stat", "-c", "%u", s.here("file")).out }
		s.with("idmap=user", func() { s.want("idmap=user", owner(), me+"\n") })
		s.file("ids", "7:"+me+"\n")
		s.with("idmap=file,uidfile=ids,gidfile=ids,nomap=ignore", func() { s.want("uidfile", owner(), "7\n") })
		s.file("ids", "7:99999\n")
		s.with("idmap=file,uidfile=ids,nomap=ignore", func() { s.want("nomap=ignore", owner(), me+"\n") })
		for _, o := range []string{"idmap=file,uidfile=ids", "idmap=file,uidfile=ids,nomap=error", "idmap=file,gidfile=ids"} {
			// The root folder itself has an owner who is not in the file.
			if r := s.run("bundlefs", s.args(o)...); r.code == 0 {
				if got := owner(); got != "" {
					t.Errorf("%s: the owner is %s", o, got)
				}
				pid := s.status().PID
				s.must("bundlefs", "unmount", s.mountpoint)
				s.gone(pid)
			}
		}
	}},
	{names: "contain_symlinks no_contain_symlinks follow_symlinks transform_symlinks", show: func(t *testing.T, s *stage) {
		if err := errors.Join(os.Symlink("/etc/passwd", s.there("out")), os.Symlink(s.there("file"), s.there("sub/abs"))); err != nil {
			t.Fatal(err)
		}
		target := func(name string) string {
			to, err := os.Readlink(s.here(name))
			var errno syscall.Errno
			if errors.As(err, &errno) {
				return errno.Error()
			}
			return to
		}
		for _, o := range []string{"", "contain_symlinks"} {
			s.with(o, func() {
				s.want("a link that leads out", target("out"), syscall.EPERM.Error())
				s.want("a link inside", target("link"), "file")
			})
		}
		s.with("no_contain_symlinks", func() { s.want("a link that leads out", target("out"), "/etc/passwd") })
		s.with("transform_symlinks", func() { s.want("a link to a folder above", target("sub/abs"), "../file") })
		s.with("follow_symlinks", func() {
			st, err := os.Lstat(s.here("sub/abs"))
			if err != nil || !st.Mode().IsRegular() || s.read("sub/abs") != "old" {
				t.Errorf("a link is not followed: %v %v", st, err)
			}
		})
	}},
	{names: "disable_hardlink", show: func(t *testing.T, s *stage) {
		s.with("", func() {
			if err := os.Link(s.here("file"), s.here("second")); err != nil {
				t.Error(err)
			}
		})
		s.with("disable_hardlink", func() {
			if err := os.Link(s.here("file"), s.here("third")); err == nil {
				t.Error("a link was made")
			}
		})
	}},
	{names: "exclusive nomount spool_max cache_max", by: TestEffectsOfExclusive},
}

var cacheEffects = []effect{
	{names: "entry_timeout attr_timeout negative_timeout", show: func(t *testing.T, s *stage) {
		s.with("entry_timeout=1000,attr_timeout=1000,negative_timeout=1000,dir_cache=no", func() {
			_, err := os.Lstat(s.here("new"))
			if s.size("file") != 3 || !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			s.change("file", "longer")
			if s.size("file") != 3 {
				t.Error("attr_timeout: attributes are not kept")
			}
			if err := errors.Join(os.Rename(s.there("file"), s.there("new"))); err != nil {
				t.Fatal(err)
			}
			if s.size("file") != 3 {
				t.Error("entry_timeout: names are not kept")
			}
			if _, err := os.Lstat(s.here("new")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("negative_timeout: that a name is not there is not kept: %v", err)
			}
		})
		s.with("entry_timeout=0,attr_timeout=0,negative_timeout=0,dir_cache=no", func() {
			_, err := os.Lstat(s.here("file"))
			if s.size("new") != 6 || !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			s.change("new", "as long as it gets")
			if s.size("new") != 18 {
				t.Error("attr_timeout=0: attributes are kept")
			}
			if err := os.Rename(s.there("new"), s.there("file")); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(s.here("new")); !errors.Is(err, fs.ErrNotExist) || s.size("file") != 18 {
				t.Errorf("names are kept: %v", err)
			}
		})
	}},
	{names: "dir_cache dcache_timeout dcache_stat_timeout dcache_link_timeout dcache_dir_timeout dcache_max_size", show: func(t *testing.T, s *stage) {
		const kernel = "entry_timeout=0,attr_timeout=0,"
		texts := map[bool]string{true: "old", false: "older"}
		long := true
		s.inSecret(func() error { return errors.Join(os.Remove(s.there("link")), os.Symlink("two", s.there("link"))) })
		for options, kept := range map[string]string{
			"dcache_timeout=1000":                                                "stat link list",
			"dcache_timeout=1000,dir_cache=no":                                   "",
			"dcache_timeout=0":                                                   "",
			"dcache_timeout=1000,dcache_stat_timeout=0":                          "",
			"dcache_timeout=1000,dcache_link_timeout=0":                          "stat list",
			"dcache_timeout=1000,dcache_dir_timeout=0":                           "stat link",
			"dcache_timeout=0,dcache_stat_timeout=1000":                          "stat",
			"dcache_timeout=0,dcache_stat_timeout=1000,dcache_link_timeout=1000": "stat link",
			"dcache_timeout=0,dcache_stat_timeout=1000,dcache_dir_timeout=1000":  "stat list",
		} {
			s.with(kernel+options, func() {
				look := func() (int64, string, string) {
					to, err := os.Readlink(s.here("link"))
					if err != nil {
						t.Fatal(err)
					}
					return s.size("file"), to, s.list()
				}
				size, to, list := look()
				s.change("file", texts[!long])
				s.inSecret(func() error {
					return errors.Join(os.Remove(s.there("link")), os.Symlink(map[bool]string{true: "one", false: "two"}[long], s.there("link")), os.WriteFile(s.there("more"), nil, 0o644))
				})
				size2, to2, list2 := look()
				for what, same := range map[string]bool{"stat": size == size2, "link": to == to2, "list": list == list2} {
					if same != strings.Contains(kept, what) {
						t.Errorf("%s: is %s kept: %v", options, what, same)
					}
				}
				long = !long
				s.inSecret(func() error { return os.Remove(s.there("more")) })
			})
		}
		s.with(kernel+"dcache_timeout=1000,dcache_max_size=1", func() {
			before := s.size("file")
			s.size("other")
			s.change("file", "again another one")
			if s.size("file") == before {
				t.Error("dcache_max_size: more is kept")
			}
		})
	}},
	{names: "kernel_cache auto_cache noauto_cache direct_io", show: func(t *testing.T, s *stage) {
		long := time.Now().Add(-time.Hour)
		for _, c := range []struct{ options, same string }{ // what is read when size and time are the same
			{"", "old"},
			{"auto_cache", "old"},
			{"noauto_cache", "new"},
			{"kernel_cache", "old"},
			{"direct_io", "new"},
		} {
			s.change("file", "new")
			s.change("file", "old")
			// What was changed a moment ago is believed by nobody.
			if err := os.Chtimes(s.there("file"), long, long); err != nil {
				t.Fatal(err)
			}
			s.with("attr_timeout=0,dir_cache=no,"+c.options, func() {
				s.want(c.options+" at first", s.read("file"), "old")
				s.change("file", "new")
				s.want(c.options+" when the text is as long", s.read("file"), c.same)
				s.change("file", "quite another")
				s.want(c.options+" when the text is longer", s.read("file"), "quite another")
			})
		}
	}},
}

var dataEffects = []effect{
	{names: "sshfs_sync", show: func(t *testing.T, s *stage) {
		s.with("sshfs_sync", func() {
			f, err := os.OpenFile(s.here("file"), os.O_WRONLY|os.O_TRUNC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, text := range []string{"one", "onetwo"} {
				if _, err := f.WriteString(text[len(text)-3:]); err != nil {
					t.Fatal(err)
				}
				if got := readString(t, s.there("file")); got != text {
					t.Errorf("on the node after a write: %q, want %q", got, text)
				}
			}
		})
	}},
	{names: "no_readahead", show: func(t *testing.T, s *stage) {
		const big = 8 << 20
		if err := os.WriteFile(s.there("big"), make([]byte, big), 0o644); err != nil {
			t.Fatal(err)
		}
		for options, ahead := range map[string]bool{"": true, "no_readahead": false} {
			s.with(options, func() {
				s.kept("asked")
				s.must("dd", "if="+s.here("big"), "of=/dev/null", "bs=128k", "count=8", "status=none")
			})
			asked := 0
			for _, m := range regexp.MustCompile(`: read "[^"]*" \(handle \d+\) off \d+ len (\d+)`).FindAllStringSubmatch(s.kept("asked"), -1) {
				n, _ := strconv.Atoi(m[1])
				asked += n
			}
			if asked > 1<<20+256<<10 != ahead {
				t.Errorf("%q: of 1 MiB that is read, %d bytes were asked for", options, asked)
			}
		}
	}},
	{names: "sync_readdir", show: func(t *testing.T, s *stage) {
		walk := func() { // as ls -R does, and not to its end
			s.list()
			for _, d := range []string{"sub"} {
				if _, err := os.ReadDir(s.here(d)); err != nil {
					t.Fatal(err)
				}
			}
		}
		listed := func() bool {
			return strings.Contains(readString(t, filepath.Join(s.dir, "asked")), `opendir "`+s.there("sub/below"))
		}
		s.with("", func() {
			walk()
			await(t, "a folder is listed ahead", listed)
		})
		s.kept("asked")
		s.with("sync_readdir", walk)
		if listed() {
			t.Error("a folder is listed ahead")
		}
	}},
	{names: "max_read max_write", show: func(t *testing.T, s *stage) {
		log := s.file("log", "")
		if err := os.WriteFile(s.there("big"), make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		s.with("max_read=8192,max_write=16384,sshfs_debug,logfile="+log, func() {
			s.must("cp", s.here("big"), s.here("copy"))
		})
		sizes := map[string]int{"READ": 0, "WRITE": 0}
		for _, m := range regexp.MustCompile(`rx \d+: (READ|WRITE) n\d+ \{Fh \d+ \[\d+ \+(\d+)\)`).FindAllStringSubmatch(s.kept("log"), -1) {
			n, _ := strconv.Atoi(m[2])
			sizes[m[1]] = max(sizes[m[1]], n)
		}
		if sizes["READ"] != 8192 || sizes["WRITE"] != 16384 {
			t.Errorf("the largest requests: %v", sizes)
		}
	}},
}

// unusedValue is one that an option without effect takes.
func unusedValue(o option) string {
	if v := map[string]string{"ssh_protocol": "2", "modules": "subdir", "workaround": "rename:nobuflimit", "from_code": "UTF-8"}[o.name]; v != "" || o.arg == "" {
		return v
	}
	return "1"
}
