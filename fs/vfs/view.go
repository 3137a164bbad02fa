package vfs

import (
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// ViewOptions say how what is on the node is shown here. The zero value shows it
// as it is, but for links that lead out of the mount.
type ViewOptions struct {
	// NoContain passes on all targets of symbolic links. Otherwise a link that
	// could lead out of the mount cannot be read (EPERM): see [contained].
	NoContain bool
	// Transform makes absolute targets below the mount's root relative.
	Transform bool
	// Follow has the node follow symbolic links: they appear as what they point
	// to. It is for shared mode only.
	Follow bool
	// NoHardlink refuses to make further names of files (ENOSYS).
	NoHardlink bool

	// IDMap says how users and groups of the node become those here: "" and
	// "none" as they are, "user" with the login's on the node as LocalUID and
	// LocalGID, "file" by UIDMap and GIDMap: number here → number on the node. A
	// map that is nil leaves all as they are.
	IDMap          string
	UIDMap, GIDMap map[uint32]uint32
	// NoMap says what happens with a number that such a map does not have: with ""
	// and "error" what has it cannot be used (EPERM), with "ignore" it is the same here.
	NoMap string
	// LocalUID and LocalGID stand, with "user", for the login's on the node.
	LocalUID, LocalGID uint32
	// LoginFile is a file of the mounted folder which the login has made, so that the owner of the file
	// tells its numbers; "" takes those of the home folder.
	LoginFile string
}

// view is how attributes of the node are shown here.
type view struct {
	ViewOptions
	uid, gid *uint32 // shown as the owner of everything, if not nil
	umask    *uint32 // taken away from permissions, if not nil
	uids     idTable
	gids     idTable
	ownOnly  bool // the login is known, and not the node's root: it gives files to nobody else
}

// listed turns attributes of the wire into ours, without inode number and links.
func (v *view) listed(st *sftpwire.Stat) Attr {
	a := Attr{
		Mode: saneMode(st.Permissions), Nlink: 1, UID: v.uids.here(st.UID), GID: v.gids.here(st.GID), Size: st.Size,
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
