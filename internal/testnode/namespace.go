package testnode

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The ordinary user of [AsUser].
const (
	ordinaryUser = "node"
	ordinaryUID  = 54321
)

// canUnshare says why no mount namespace can be had; nil when it can.
var canUnshare = sync.OnceValue(func() error {
	result := make(chan error)
	go onOwnThread(func() { result <- unix.Unshare(unix.CLONE_NEWNS) })
	if err := <-result; err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	return nil
})

// onOwnThread runs f on a thread that ends with f, so that f may change the thread's namespaces.
// Never on the main thread, as /proc/self is what that one sees, for the whole process.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // the thread is still locked, so it ends here
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// enterNamespace gives the calling thread, and what it starts, a mount namespace whose user
// database is the one in dir.
func enterNamespace(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	// What is mounted here must not show outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := detachFUSE(); err != nil {
		return err
	}
	for _, name := range []string{"passwd", "group", "shadow", "sudoers"} {
		from := filepath.Join(dir, name)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := unix.Mount(from, "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on /etc/%s: %w", from, name, err)
		}
	}
	return nil
}

// detachFUSE unmounts the FUSE file systems in the namespace of this thread. A copy left in here
// would keep one alive that the test unmounts outside.
func detachFUSE() error {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 {
			continue
		}
		if kind, _, _ := strings.Cut(after, " "); kind == "fuse" || strings.HasPrefix(kind, "fuse.") {
			points = append(points, unescape(fields[4]))
		}
	}
	for _, p := range points {
		// One that is gone meanwhile does not matter.
		_ = unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	return nil
}

// unescape undoes the octal escapes of /proc/PID/mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// writeUsers writes the user database of the namespace: the machine's, in which the login user
// has the node's home, /bin/sh, and an account that is not locked.
func (n *Node) writeUsers() error {
	entries := []struct {
		file, line string
		mode       os.FileMode
	}{
		{"passwd", fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", n.User, n.uid, n.uid, n.Home), 0o644},
		{"group", fmt.Sprintf("%s:x:%d:", n.User, n.uid), 0o644},
		{"shadow", n.User + ":*:19000:0:99999:7:::", 0o600},
	}
	if n.opts.sudoers != "" {
		entries[2].line = n.User + ":" + sudoHash + ":19000:0:99999:7:::"
		if err := os.WriteFile(filepath.Join(n.dir, "sudoers"), []byte(n.opts.sudoers), 0o440); err != nil {
			return err
		}
	}
	for _, e := range entries {
		old, err := os.ReadFile("/etc/" + e.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		lines := []string{e.line}
		for line := range strings.Lines(string(old)) {
			if !strings.HasPrefix(line, n.User+":") {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
		}
		text := strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(n.dir, e.file), []byte(text), e.mode); err != nil {
			return err
		}
	}
	return nil
}
