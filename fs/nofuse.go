package fs

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoFUSE is what an error of Mount matches (errors.Is) that says: this machine does not let
// us mount by FUSE, whatever is to be mounted. [Open] does without.
var ErrNoFUSE = errors.New("no FUSE")

// NoFUSE makes of err one that matches [ErrNoFUSE], with the same text.
func NoFUSE(err error) error { return noFUSE{err} }

type noFUSE struct{ error }

func (e noFUSE) Unwrap() error        { return e.error }
func (e noFUSE) Is(target error) bool { return target == ErrNoFUSE }

// refusedMount marks an error of mount(2), if it is that FUSE mounts are not for us: a kernel
// without FUSE, or a container without the right to mount.
func refusedMount(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODEV) {
		return NoFUSE(err)
	}
	return err
}

// refusedByHelper does the same with what fusermount3 has said, which gives no more than words.
func refusedByHelper(said string) error {
	err := errors.New(said)
	for _, words := range []string{"/dev/fuse", "fuse device not found", "mount failed: Operation not permitted", "mount failed: No such device"} {
		if strings.Contains(said, words) {
			return NoFUSE(err)
		}
	}
	return err
}
