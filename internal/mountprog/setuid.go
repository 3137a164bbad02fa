package mountprog

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"bundlefs/internal/lease"
)

// become gives up root's rights for those of the user of -o setuid, with the user's groups,
// home and name. What is only root's in the environment goes.
func (m *mountConfig) become() error {
	if m.setuid == "" {
		return nil
	}
	u, err := user.Lookup(m.setuid)
	if err != nil {
		return fail("name a user of this machine", "option setuid: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("option setuid: %w", err)
	}
	if uid == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return fail("leave the option out, or mount as root", "option setuid: only root can mount as %s", m.setuid)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("option setuid: %w", err)
	}
	names, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("option setuid: groups of %s: %w", m.setuid, err)
	}
	groups := make([]int, 0, len(names))
	for _, name := range names {
		if g, err := strconv.Atoi(name); err == nil {
			groups = append(groups, g)
		}
	}
	for _, name := range []string{"XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", lease.SpoolsVariable, "SSH_AUTH_SOCK", "SSH_ASKPASS"} {
		os.Unsetenv(name)
	}
	for name, value := range map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username} {
		os.Setenv(name, value)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("option setuid: groups of %s: %w", m.setuid, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("option setuid: group of %s: %w", m.setuid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("option setuid: %w", err)
	}
	// The kernel has closed /proc/self to the new user, who is no one else than this process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("option setuid: prctl: %w", err)
	}
	return nil
}
