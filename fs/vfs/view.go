package vfs

import (
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
		Mode: st.Mode, Nlink: 1, UID: st.UID, GID: st.GID, Size: st.Size,
		Atime: int64(st.Atime) * int64(time.Second), Mtime: int64(st.Mtime) * int64(time.Second),
	}
	if a.Mode&TypeMask == 0 { // a server may leave the type out
		a.Mode |= TypeRegular
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
