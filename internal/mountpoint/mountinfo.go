// Package mountpoint deals with the local side of a mount: whether something is mounted on a
// folder, whether that is dead, how it is unmounted, and the folder underneath.
//
// The folder underneath is closed while it is a mount point (Cover), so that a program which
// goes on after an unmount gets an error instead of writing silently beside the mount. What
// it was before is kept in a record on disk, so that it can be brought back (Recover) even
// when the mount program was killed or the machine was restarted.
package mountpoint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	ID      int
	Device  string // MAJOR:MINOR of the filesystem, the same in all mount namespaces
	Path    string // the mount point, absolute
	Type    string // for instance ext4, fuse.bundlefs
	Source  string // for instance user@host:dir
	Options string // of the superblock, comma separated
}

// Find is what is mounted on path, which must be canonical (control.Canonical), or nil. Of
// several mounts on top of each other it is the one that is seen. It asks the kernel's
// table only, never the mounted filesystem.
func Find(path string) (*Mount, error) {
	all, err := List("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return find(all, path), nil
}

func find(all []*Mount, path string) *Mount {
	var found *Mount
	for _, m := range all {
		if m.Path == path {
			found = m
		}
	}
	return found
}

// List reads one of the kernel's tables of mounts, /proc/PID/mountinfo.
func List(table string) ([]*Mount, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := list(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", table, err)
	}
	return all, nil
}

func list(table io.Reader) (all []*Mount, err error) {
	in := bufio.NewScanner(table)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		m, err := parse(in.Text())
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, in.Err()
}

// parse reads a line such as
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parse(line string) (*Mount, error) {
	head, tail, ok := strings.Cut(line, " - ")
	f := strings.Fields(head)
	g := strings.Split(tail, " ")
	if !ok || len(f) < 6 || len(g) < 2 {
		return nil, fmt.Errorf("malformed line %q", line)
	}
	id, err := strconv.Atoi(f[0])
	if err != nil {
		return nil, fmt.Errorf("malformed line %q", line)
	}
	return &Mount{ID: id, Device: f[2], Path: unescape(f[4]), Type: g[0], Source: unescape(g[1]), Options: g[len(g)-1]}, nil
}

// unescape undoes the kernel's octal escapes of space, tab, newline, backslash and hash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// deadWait is how long Dead waits for a mounted filesystem to say anything at all.
const deadWait = 2 * time.Second

// Dead tells whether the process behind the FUSE mount on path is gone: "transport endpoint
// is not connected". A filesystem that is only slow to answer is not dead.
func Dead(path string) bool {
	answer := make(chan error, 1)
	go func() {
		// Not stat(2): the kernel answers that from what it remembers, after the process is gone.
		var st syscall.Statfs_t
		answer <- syscall.Statfs(path, &st)
	}()
	select {
	case err := <-answer:
		return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
	case <-time.After(deadWait):
		return false
	}
}
