package fs

import (
	"cmp"
	"os"

	"bundlefs/fs/vfs"
)

// view is the part of the options that says how what is on the node is shown.
func (o Options) view() vfs.ViewOptions {
	v := vfs.ViewOptions{
		NoContain: o.ContainSymlinks != nil && !*o.ContainSymlinks, Transform: o.TransformSymlinks, Follow: o.FollowSymlinks,
		NoHardlink: o.DisableHardlink,
		IDMap:      o.IDMap, UIDMap: o.UIDMap, GIDMap: o.GIDMap, NoMap: o.NoMap,
		LocalUID: uint32(os.Getuid()), LocalGID: uint32(os.Getgid()),
	}
	if o.Exclusive != nil {
		v.LoginFile = o.Exclusive.LoginFile
	}
	return v
}

// cache is the part of the options that says what shared mode remembers.
func (o Options) cache() vfs.CacheOptions {
	return vfs.CacheOptions{
		Off: o.DirCache != nil && !*o.DirCache, NoAhead: o.SyncReaddir,
		Attr: cmp.Or(o.DcacheStatTimeout, o.DcacheTimeout), Link: cmp.Or(o.DcacheLinkTimeout, o.DcacheTimeout), Dir: cmp.Or(o.DcacheDirTimeout, o.DcacheTimeout),
		Max: o.DcacheMaxSize,
	}
}
