package mountpoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Fusermount is the setuid program by which an ordinary user mounts and unmounts:
// fusermount3, or fusermount where there is only that. Looked for on PATH, then in /bin.
func Fusermount() (string, error) {
	var firstErr error
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		path, err := exec.LookPath(name)
		if err == nil {
			return path, nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return "", firstErr
}

// Unmount unmounts path: directly as root, by fusermount3 as an ordinary user. A mount that
// is in use gives an error that is syscall.EBUSY. With lazy it disappears from the tree at
// once, and goes on for those who still use it.
func Unmount(path string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		if err := unix.Unmount(path, flags); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return nil
	}
	bin, err := Fusermount()
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	var out bytes.Buffer
	cmd := exec.Command(bin, append(args, "--", path)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // its words are read below
	cmd.Stderr = &out
	cmd.Dir = "/"
	err = cmd.Run()
	if err == nil {
		return nil
	}
	said := strings.TrimSpace(out.String())
	var exit *exec.ExitError
	switch {
	case strings.Contains(said, "resource busy"):
		err = syscall.EBUSY
	case errors.As(err, &exit) && said != "":
		err = errors.New(said)
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}
