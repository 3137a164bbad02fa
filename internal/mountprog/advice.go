package mountprog

import (
	"errors"
	"syscall"

	"bundlefs/fs"
	"bundlefs/fs/vfs"
)

// advised adds to an error of mounting what can be done about it, unless it says so itself or
// nothing is wrong.
func (m *mountConfig) advised(err error) error {
	if err == nil || hintOf(err) != "" || errors.Is(err, errInterrupted) {
		return err
	}
	return &hinted{err, m.advice(err)}
}

func (m *mountConfig) advice(err error) string {
	var root *vfs.RootError
	switch {
	case errors.As(err, &root) && errors.Is(err, syscall.ENOENT):
		return "is it spelled right, seen from the home folder there? create it on the node, or mount without it with -o no_check_root"
	case errors.As(err, &root) && errors.Is(err, syscall.ENOTDIR):
		return "name the folder that it is in: a single file cannot be mounted"
	case errors.As(err, &root):
		return "look at it on the node as the user who logs in: that user has to be able to enter it"
	case errors.Is(err, fs.ErrLeaseLost):
		return "the token has to be that of the owner record in the folder; conc status tells whose a bundle is"
	case errors.Is(err, fs.ErrNoFUSE):
		return "conc check tells what FUSE lacks here; in a container start it with --device /dev/fuse --cap-add SYS_ADMIN"
	}
	return "start it with -f -d to see what it does"
}
