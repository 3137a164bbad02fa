package vfs

import (
	"strings"
	"syscall"
)

// Each name that a caller gives, and each that the node lists, is checked here, in both modes.

// maxName is the longest name Linux file systems take (NAME_MAX). A server
// answers a longer one with BAD_MESSAGE, and some end the session.
const maxName = 255

// asidePrefix begins the names under which files are put together, or wait for
// their last reader; listings leave them out. parkedPrefix begins those of files and
// folders that wait for their new name to become free: what has such a name may be
// nowhere else.
const (
	asidePrefix  = ".bundlefs~"
	parkedPrefix = asidePrefix + "kept-"
)

// nameUse is what a name is needed for.
type nameUse int

const (
	looksUp nameUse = iota
	removes         // or gives it up for another one
	makes           // by whatever way
)

// check returns ENAMETOOLONG or EINVAL for what nothing can be called, and EPERM where a hidden name
// of ours is to be given to something. In exclusive mode that would vanish from the listing and be
// taken for a leftover, so shared mode, whose folder may be mounted exclusively later on, refuses it, too.
func (u nameUse) check(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if u == makes && isAside(name) {
		return syscall.EPERM
	}
	return nil
}

// checkName is check for a name that exists, or is looked for.
func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return syscall.ENAMETOOLONG
	case !sane(name):
		return syscall.EINVAL
	}
	return nil
}

// sane reports whether a name can be one entry of a folder.
func sane(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// isAside reports whether a name is one of our own hidden names.
func isAside(name string) bool { return strings.HasPrefix(name, asidePrefix) }

func isParked(name string) bool { return strings.HasPrefix(name, parkedPrefix) }

// isLeftover reports whether a name is that of a file which a mount was putting together, or
// had kept for its last reader: INODE-NUMBER after the prefix (see aside). Only such a file is
// removed when nobody knows it any more.
func isLeftover(name string) bool {
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	ino, seq, ok := strings.Cut(strings.TrimPrefix(name, asidePrefix), "-")
	return isAside(name) && ok && digits(ino) && digits(seq)
}
