package fs

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"bundlefs/fs/vfs"
)

// Each option of shared mode gets to where it has its effect, and no other with it.
func TestSharedOptions(t *testing.T) {
	second, minute, no := time.Second, time.Minute, false
	id := uint32(7)
	for name, c := range map[string]struct {
		given Options
		want  func(o *vfs.SharedOptions)
	}{
		"nothing":         {Options{}, func(*vfs.SharedOptions) {}},
		"no_check_root":   {Options{NoCheckRoot: true}, func(o *vfs.SharedOptions) { o.NoCheckRoot = true }},
		"timeouts":        {Options{EntryTimeout: 1, AttrTimeout: 2, NegativeTimeout: 3}, func(o *vfs.SharedOptions) { o.NameTimeout, o.AttrTimeout, o.NegativeTimeout = 1, 2, 3 }},
		"owners":          {Options{UID: &id, GID: &id, Umask: &id}, func(o *vfs.SharedOptions) { o.UID, o.GID, o.Umask = &id, &id, &id }},
		"kernel_cache":    {Options{KernelCache: true}, func(o *vfs.SharedOptions) { o.KernelCache = true }},
		"noauto_cache":    {Options{NoAutoCache: true}, func(o *vfs.SharedOptions) { o.NoAutoCache = true }},
		"direct_io":       {Options{DirectIO: true}, func(o *vfs.SharedOptions) { o.DirectIO = true }},
		"sshfs_sync":      {Options{SyncWrites: true}, func(o *vfs.SharedOptions) { o.SyncWrites = true }},
		"no_readahead":    {Options{NoReadahead: true}, func(o *vfs.SharedOptions) { o.NoReadahead = true }},
		"sync_readdir":    {Options{SyncReaddir: true}, func(o *vfs.SharedOptions) { o.Cache.NoAhead = true }},
		"dir_cache":       {Options{DirCache: &no}, func(o *vfs.SharedOptions) { o.Cache.Off = true }},
		"dcache_max_size": {Options{DcacheMaxSize: 5}, func(o *vfs.SharedOptions) { o.Cache.Max = 5 }},
		"dcache_timeout": {Options{DcacheTimeout: &second}, func(o *vfs.SharedOptions) {
			o.Cache.Attr, o.Cache.Link, o.Cache.Dir = &second, &second, &second
		}},
		"dcache_stat_timeout": {Options{DcacheTimeout: &second, DcacheStatTimeout: &minute}, func(o *vfs.SharedOptions) {
			o.Cache.Attr, o.Cache.Link, o.Cache.Dir = &minute, &second, &second
		}},
		"dcache_link_timeout": {Options{DcacheLinkTimeout: &minute}, func(o *vfs.SharedOptions) { o.Cache.Link = &minute }},
		"dcache_dir_timeout":  {Options{DcacheDirTimeout: &minute}, func(o *vfs.SharedOptions) { o.Cache.Dir = &minute }},
		"max_conns, timeout":  {Options{Sessions: 3, Timeout: minute}, func(o *vfs.SharedOptions) { o.Sessions, o.Timeout = 3, minute }},
	} {
		want := vfs.SharedOptions{View: Options{}.view()}
		c.want(&want)
		if got := c.given.shared(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// What the kernel is told when it mounts.
func TestKernelOptions(t *testing.T) {
	for _, c := range []struct {
		given Options
		want  []string
	}{
		{Options{}, nil},
		{Options{ReadOnly: true}, []string{"ro"}},
		{Options{DefaultPermissions: true}, []string{"default_permissions"}},
		{Options{MountOptions: []string{"noexec"}, ReadOnly: true}, []string{"noexec", "ro"}},
	} {
		if got := mountOptions(c.given); !slices.Equal(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for given, want := range map[int]int{0: MostRequest, -1: MostRequest, 8192: 8192, MostRequest + 1: MostRequest} {
		if got := atMost(given); got != want {
			t.Errorf("at most %d: %d, want %d", given, got, want)
		}
	}
}
