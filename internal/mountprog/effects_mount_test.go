package mountprog

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

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
