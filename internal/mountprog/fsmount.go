package mountprog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/lease"
	"bundlefs/internal/remote"
)

// Defaults of the kernel's caches: what is changed on the node shows within a second.
const (
	defaultEntryTimeout = time.Second
	defaultAttrTimeout  = time.Second
)

// mountFS connects and mounts.
func mountFS(ctx context.Context, m *mountConfig, prompts *memory, log *logger) (*fs.Server, error) {
	exclusive, err := m.exclusiveMode()
	if err != nil {
		return nil, err
	}
	return fs.Mount(ctx, m.mountpoint, fs.Options{
		Dial: func(ctx context.Context) (fs.Conn, error) {
			c, err := remote.Dial(ctx, m.target, remote.Options{Prompt: prompts.prompter(), Log: log.Logger})
			if err != nil {
				return nil, err // not c, which would be an interface that is not nil
			}
			return c, nil
		},
		Root:               m.source.dir,
		Name:               m.fsname,
		EntryTimeout:       or(m.entryTimeout, defaultEntryTimeout),
		AttrTimeout:        or(m.attrTimeout, defaultAttrTimeout),
		NegativeTimeout:    or(m.negativeTimeout, 0),
		ReadOnly:           m.readOnly,
		AllowOther:         m.allowOther,
		AllowRoot:          m.allowRoot,
		DefaultPermissions: m.defaultPermissions,
		UID:                m.uid,
		GID:                m.gid,
		Umask:              m.umask,
		Sessions:           m.sessions,
		Timeout:            requestTimeout(m.timeout),
		Exclusive:          exclusive,
		MountOptions:       m.kernelOptions(),
		Subtype:            m.subtype,
		Debug:              m.debug,
		Log:                log.Logger,
	})
}

// exclusiveMode is the mode of -o exclusive, nil without.
func (m *mountConfig) exclusiveMode() (*fs.Exclusive, error) {
	if m.exclusive == "" {
		return nil, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fail("set XDG_CACHE_HOME or HOME", "find a place for what is not sent yet: %w", err)
	}
	return &fs.Exclusive{
		Spool:    lease.Spool(cache, m.exclusive),
		SpoolMax: m.spoolMax,
		Check: func(read func(name string) ([]byte, error)) error {
			err := lease.Check(m.exclusive, read)
			if errors.Is(err, lease.ErrNotOurs) {
				return fmt.Errorf("%w: %w", fs.ErrLeaseLost, err)
			}
			return err
		},
	}, nil
}

// requestTimeout is -o timeout as fs has it: 0 there is the default, and less than 0 for ever.
func requestTimeout(given *time.Duration) time.Duration {
	if given != nil && *given == 0 {
		return -1
	}
	return or(given, 0)
}

func (m *mountConfig) kernelOptions() []string {
	l := []string{"nosuid", "nodev"}
	if m.noexec {
		l = append(l, "noexec")
	}
	return l
}

func or(given *time.Duration, otherwise time.Duration) time.Duration {
	if given == nil {
		return otherwise
	}
	return *given
}
