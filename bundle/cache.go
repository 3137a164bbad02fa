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
// none, and so nothing that is only here. A cache that we may not look into may have one.
func (st *State) spool() string {
	if st.Cache == "" {
		return ""
	}
	dir := lease.Spool(st.Cache, st.Record.Token)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ""
	}
	return dir
}

// cacheDir is the folder under which the mount program keeps spools.
func (c *Config) cacheDir() (string, error) {
	if c.CacheDir != "" {
		return filepath.Abs(c.CacheDir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", withHint(fmt.Errorf("find a place for what is not sent yet: %w", err), "set XDG_CACHE_HOME or HOME")
	}
	return dir, nil
}

// usableCache proves that a spool can be made under a cache, before anything depends on it. It
// makes nothing. open: a bundle uses it already.
func usableCache(cache, node string, open bool) error {
	dir := filepath.Dir(lease.Spool(cache, ""))
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
			hint += ", or set XDG_CACHE_HOME to another place"
		}
		return withHint(fmt.Errorf("%s: no place for what is not sent yet: %s: %w", node, dir, err), hint)
	}
}
