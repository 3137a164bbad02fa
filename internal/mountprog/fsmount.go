package mountprog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/lease"
)

// Defaults of the kernel's caches: what is changed on the node shows within a second.
const (
	defaultEntryTimeout = time.Second
	defaultAttrTimeout  = time.Second
)

// mountFS connects and mounts; with nomount it only connects. ahead is the connection that was
// made already, or nil.
func mountFS(ctx context.Context, m *mountConfig, prompts *memory, ahead *ahead, log *logger) (*fs.Server, error) {
	exclusive, err := m.exclusiveMode()
	if err != nil {
		return nil, err
	}
	o, err := m.options(prompts, log)
	if err != nil {
		return nil, err
	}
	if o.Exclusive = exclusive; exclusive != nil && o.IDMap == "" {
		o.IDMap = "user" // the owner record tells who that is on the node; otherwise it would be a guess
	}
	o.Link = ahead.wait(ctx)
	if m.nomount {
		return fs.Open(ctx, o)
	}
	return fs.Mount(ctx, m.mountpoint, o)
}

// options are those of the mount, but for what depends on the token.
func (m *mountConfig) options(prompts *memory, log *logger) (o fs.Options, err error) {
	o = m.fs
	if o.Dial, err = m.dialer(prompts, log.Logger); err != nil {
		return o, err
	}
	o.Root = m.root()
	o.Name = m.fsname
	o.EntryTimeout = or(m.entryTimeout, defaultEntryTimeout)
	o.AttrTimeout = or(m.attrTimeout, defaultAttrTimeout)
	o.NegativeTimeout = or(m.negativeTimeout, 0)
	o.ReadOnly, o.AllowOther, o.AllowRoot, o.DefaultPermissions = m.readOnly, m.allowOther, m.allowRoot, m.defaultPermissions
	o.UID, o.GID, o.Umask = m.uid, m.gid, m.umask
	o.Sessions = m.sessions
	o.Timeout = requestTimeout(m.timeout)
	o.MountOptions = m.kernelOptions()
	o.Subtype = m.subtype
	o.Debug, o.Log = m.debug, log.Logger
	return o, nil
}

// root is the folder on the node.
func (m *mountConfig) root() string {
	if m.subdir == "" {
		return m.source.dir
	}
	if m.source.dir == "" {
		return strings.TrimLeft(m.subdir, "/")
	}
	return strings.TrimRight(m.source.dir, "/") + "/" + strings.TrimLeft(m.subdir, "/")
}

// exclusiveMode is the mode of -o exclusive, nil without.
func (m *mountConfig) exclusiveMode() (*fs.Exclusive, error) {
	if m.exclusive == "" {
		return nil, nil
	}
	spool, err := lease.FindSpool(m.exclusive)
	if err != nil {
		return nil, fail("set XDG_STATE_HOME or HOME", "find a place for what is not sent yet: %w", err)
	}
	return &fs.Exclusive{
		Spool:     spool,
		SpoolMax:  m.spoolMax,
		CacheMax:  m.cacheMax,
		LoginFile: lease.RecordName,
		Name:      func(n int) string { return lease.Name(m.exclusive, n) },
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
