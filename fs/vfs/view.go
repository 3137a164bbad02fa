package vfs

import (
	"syscall"
	"time"

	"github.com/pkg/sftp"
)

// view is how attributes of the node are shown here.
type view struct {
	uid, gid *uint32 // shown as the owner of everything, if not nil
	umask    *uint32 // taken away from permissions, if not nil
}

// listed turns attributes of the wire into ours, without inode number and links.
func (v view) listed(st *sftp.FileStat) Attr {
	a := Attr{
		Mode: saneMode(st.Mode), Nlink: 1, UID: st.UID, GID: st.GID, Size: st.Size,
		Atime: int64(st.Atime) * int64(time.Second), Mtime: int64(st.Mtime) * int64(time.Second),
	}
	a.Size = min(a.Size, 1<<63-1) // an offset of the kernel is signed
	a.Ctime = a.Mtime
	if v.uid != nil {
		a.UID = *v.uid
	}
	if v.gid != nil {
		a.GID = *v.gid
	}
	if v.umask != nil {
		a.Mode &^= *v.umask & 0o777
	}
	return a
}

// saneMode takes from the wire what can be a mode. The kernel has no use for an
// inode of a type that it does not know; a server may leave the type out.
func saneMode(mode uint32) uint32 {
	switch t := mode & TypeMask; t {
	case TypeRegular, TypeDir, TypeSymlink, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFCHR, syscall.S_IFBLK:
		return mode & (TypeMask | 0o7777)
	}
	return TypeRegular | mode&0o7777
}
