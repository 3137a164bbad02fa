package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"bundlefs/internal/lease"
)

// spool is the folder with what the mount has not sent yet; "" when there is
// none, and so nothing that is only here. A folder that we may not look into may have one.
func (st *State) spool() string {
	if st.Spools == "" {
		return ""
	}
	dir := lease.Spool(st.Spools, st.Record.Token)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ""
	}
	return dir
}

// spoolsDir is the folder under which the mount program keeps spools.
func (c *Config) spoolsDir() (string, error) {
	if c.SpoolsDir != "" {
		return filepath.Abs(c.SpoolsDir)
	}
	dir, err := lease.StateHome()
	if err != nil {
		return "", withHint(fmt.Errorf("find a place for what is not sent yet: %w", err), "set XDG_STATE_HOME or HOME")
	}
	return dir, nil
}

// usableSpools proves that a spool can be made under a folder, before anything depends on it. It
// makes nothing. open: a bundle uses it already.
func usableSpools(spools, node string, open bool) error {
	dir := filepath.Dir(lease.Spool(spools, ""))
	for {
		info, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
			continue
		}
		if err == nil && !info.IsDir() {
			err = syscall.ENOTDIR
		}
		if err == nil {
			err = unix.Access(dir, unix.W_OK|unix.X_OK)
		}
		if err == nil {
			return nil
		}
		var at *os.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		hint := fmt.Sprintf("make %s a folder that you may write to (ls -ld tells whose it is)", dir)
		if open {
			hint += fmt.Sprintf("; if nothing of the bundle is in it, 'conc close %s --forget' and 'conc unlock %[1]s --force' do without", node)
		} else {
			hint += ", or set XDG_STATE_HOME to another place"
		}
		return withHint(fmt.Errorf("%s: no place for what is not sent yet: %s: %w", node, dir, err), hint)
	}
}
