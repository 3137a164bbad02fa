package mountprog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	bfs "bundlefs/fs"
	"bundlefs/internal/mountpoint"
)

// system is what of this machine a mount depends on; tests put others in its place.
type system struct {
	fuseDevice string
	fuseConf   string
	fusermount func() (string, error)
	euid       int
}

func thisSystem() system {
	return system{fuseDevice: "/dev/fuse", fuseConf: "/etc/fuse.conf", fusermount: mountpoint.Fusermount, euid: os.Geteuid()}
}

// check finds out, before anything is done, what would make the mount fail. It cleans up after
// a bundlefs that was killed. The caller holds the control socket of the mount point.
func (sys system) check(m *mountConfig, say *messages) error {
	if err := sys.clean(m.mountpoint, say); err != nil {
		return err
	}
	if err := sys.checkFolder(m); err != nil {
		return err
	}
	if err := sys.checkDevice(); err != nil {
		return bfs.NoFUSE(err)
	}
	if sys.euid == 0 {
		return nil
	}
	if _, err := sys.fusermount(); err != nil {
		return bfs.NoFUSE(fail("apt-get install fuse3, or what your system calls it", "an ordinary user mounts by fusermount3: %w", err))
	}
	if m.allowOther || m.allowRoot {
		return sys.checkAllowOther()
	}
	return nil
}

// clean refuses a folder that is a mount point, and removes a dead mount of ours.
func (sys system) clean(path string, say *messages) error {
	mounted, err := mountpoint.Find(path)
	if err != nil {
		return err
	}
	if mounted != nil {
		switch {
		case !strings.HasPrefix(mounted.Type, "fuse") || !mountpoint.Dead(path):
			return fail("unmount it first, or choose another folder", "%s is a mount point already: %s of type %s", path, mounted.Source, mounted.Type)
		case mounted.Type != "fuse.bundlefs":
			return fail("unmount it: fusermount3 -u "+path, "%s is a dead mount of %s: %w", path, mounted.Source, syscall.ENOTCONN)
		}
		if err := mountpoint.Unmount(path, true); err != nil {
			return fail("unmount it: fusermount3 -u "+path, "%s is a dead mount of %s: %w", path, mounted.Source, err)
		}
		say.note("removed the dead mount of %s on %s", mounted.Source, path)
	}
	if _, err := mountpoint.Recover(path); err != nil {
		return fail("chmod u+w "+path+" does it by hand", "bring back the folder under the last mount: %w", err)
	}
	return nil
}

func (sys system) checkFolder(m *mountConfig) error {
	path := m.mountpoint
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("create it: mkdir -p "+path, "mount point %s does not exist", path)
	case err != nil:
		return fail("choose a folder that you can reach", "mount point %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fail("choose a folder", "mount point %s is not a folder", path)
	case sys.euid != 0 && st.Mode&unix.S_ISVTX != 0 && int(st.Uid) != sys.euid:
		return fail("choose a folder of yours", "mount point %s belongs to uid %d and is sticky: only that user may mount there", path, st.Uid)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fail("choose a folder of yours", "mount point %s: we may not write to it: %w", path, err)
	}
	if m.nonempty {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", path, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	if err == nil {
		return fail("choose an empty folder, or hide what is in it with -o nonempty", "mount point %s is not empty: it has %q", path, names[0])
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("mount point %s: %w", path, err)
	}
	return nil
}

func (sys system) checkDevice() error {
	f, err := os.OpenFile(sys.fuseDevice, os.O_RDWR, 0)
	switch {
	case err == nil:
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return fmt.Errorf("FUSE: %w", err)
		}
		// Sandboxes hide a device behind another one.
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(10, 229) {
			return fail("in a container start it with --device "+sys.fuseDevice, "FUSE is hidden: %s is something else", sys.fuseDevice)
		}
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fail(fmt.Sprintf("load the module: sudo modprobe fuse; where there is no udev also: sudo mknod -m 0666 %[1]s c 10 229; in a container start it with --device %[1]s", sys.fuseDevice), "FUSE is missing: %w", err)
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fail("load the module: sudo modprobe fuse", "the kernel has no FUSE: %w", err)
	case errors.Is(err, fs.ErrPermission) && sys.euid == 0:
		return fail("in a container start it with --device "+sys.fuseDevice+" --cap-add SYS_ADMIN", "FUSE is closed to root: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fail("sudo chmod 0666 "+sys.fuseDevice, "FUSE is closed to ordinary users: %w", err)
	}
	return fmt.Errorf("FUSE: %w", err)
}

// checkAllowOther looks for the line without which fusermount3 refuses allow_other.
func (sys system) checkAllowOther() error {
	hint := fmt.Sprintf("have root add the line user_allow_other to %s, or leave allow_other out", sys.fuseConf)
	f, err := os.Open(sys.fuseConf)
	if err != nil {
		return fail(hint, "allow_other is not allowed to ordinary users: %w", err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if strings.TrimSpace(in.Text()) == "user_allow_other" {
			return nil
		}
	}
	return fail(hint, "allow_other is not allowed to ordinary users by %s", sys.fuseConf)
}
