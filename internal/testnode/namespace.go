package testnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"bundlefs/internal/mountpoint"

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

// DetachFUSE are commands of sh for a mount namespace of its own, the first in it: nothing that is mounted there
// shows outside, and the FUSE file systems are unmounted, but for those below the folder $keep. A copy left in
// there would keep a mount alive that a test unmounts outside. Who is not root outside may not unmount them.
const DetachFUSE = `mount --make-rprivate / || exit
awk '/ - fuse/ {print $5}' /proc/self/mountinfo | while read -r other; do
	case $other in "${keep:-/nonexistent}"/*) ;; *) umount -l "$other" 2>/dev/null || true ;; esac
done
`

// detachFUSE does the same in the mount namespace of the calling thread.
func detachFUSE() error {
	all, err := mountpoint.List("/proc/thread-self/mountinfo")
	for _, m := range all {
		if m.Type == "fuse" || strings.HasPrefix(m.Type, "fuse.") {
			// One that is gone meanwhile does not matter.
			_ = unix.Unmount(m.Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	return err
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
