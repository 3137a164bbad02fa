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
