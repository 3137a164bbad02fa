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

// users lists the processes that use something at or below a folder, as far as
// this user may see them, but for the one that serves the mount, which holds
// the folder under it. Only links in /proc are read: nothing in the folder is
// touched.
func users(folder string, server int) []User {
	at, err := control.Canonical(folder)
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []User
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == server {
			continue
		}
		if uses := usesOf(dir, at); len(uses) > 0 {
			list = append(list, User{PID: pid, Command: commandOf(dir), Uses: uses})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].PID < list[j].PID })
	return list
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
