package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"bundlefs/internal/control"
)

// busy is the error of a mount that cannot be unmounted, with the processes that use something at
// or below it, as far as this user may see them: but for the one that serves the mount, which holds
// the folder under it, and this one, which whoever started it would look for in vain. Only links in
// /proc are read: nothing in the folder is touched.
func busy(folder string, server int) *BusyError {
	e := &BusyError{MountPoint: folder}
	at, err := control.Canonical(folder)
	if err != nil {
		return e
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == server {
			continue
		}
		uses := usesOf(dir, at)
		switch {
		case len(uses) == 0:
		case pid == os.Getpid():
			e.Inside = true
		default:
			e.Users = append(e.Users, User{PID: pid, Command: commandOf(dir), Uses: uses})
		}
	}
	sort.Slice(e.Users, func(i, j int) bool { return e.Users[i].PID < e.Users[j].PID })
	return e
}

func usesOf(proc, at string) []string {
	var uses []string
	seen := map[string]bool{}
	add := func(what string) {
		if !seen[what] && len(uses) < 5 {
			seen[what] = true
			uses = append(uses, what)
		}
	}
	for _, l := range []struct{ name, what string }{{"cwd", "cwd"}, {"root", "root"}, {"exe", "program"}} {
		if target, err := os.Readlink(filepath.Join(proc, l.name)); err == nil {
			if name, ok := below(target, at); ok {
				add(strings.TrimSpace(l.what + " " + name))
			}
		}
	}
	fds, _ := os.ReadDir(filepath.Join(proc, "fd"))
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil {
			if name, ok := below(target, at); ok {
				add(strings.TrimSpace("open " + name))
			}
		}
	}
	maps, _ := os.ReadFile(filepath.Join(proc, "maps"))
	for line := range strings.Lines(string(maps)) {
		i := strings.IndexByte(line, '/')
		if i < 0 {
			continue
		}
		if name, ok := below(strings.TrimRight(line[i:], "\n"), at); ok {
			add("mapped " + name)
		}
	}
	return uses
}

// below tells whether a link of /proc leads to at or something in it, and to what.
func below(target, at string) (name string, ok bool) {
	target = strings.TrimSuffix(target, " (deleted)")
	if target == at {
		return "", true
	}
	name, ok = strings.CutPrefix(target, at+"/")
	return clean(name), ok
}

func commandOf(proc string) string {
	line, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
	if s := clean(strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")); s != "" {
		return s
	}
	comm, _ := os.ReadFile(filepath.Join(proc, "comm"))
	return fmt.Sprintf("[%s]", clean(string(comm)))
}
