package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// ownerOnly lets in the user who mounted and root. The kernel knows only all users
// or that one, so it lets all in, and the others are refused here (as libfuse does
// for allow_root): at each request that leads to a file. What the kernel has in its
// caches it shows to all: names and attributes, for the timeouts; never content.
type ownerOnly struct {
	fuse.RawFileSystem
	owner uint32
}

func (o *ownerOnly) lets(h *fuse.InHeader) bool { return h.Uid == o.owner || h.Uid == 0 }

// Access is asked here, unlike without this: entering a folder asks nothing else.
func (o *ownerOnly) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return fuse.OK
}

func (o *ownerOnly) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	if !o.lets(h) {
		return nil, fuse.EACCES
	}
	return o.RawFileSystem.Readlink(cancel, h)
}

func (o *ownerOnly) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if !o.lets(h) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Lookup(cancel, h, name, out)
}

func (o *ownerOnly) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.GetAttr(cancel, in, out)
}

func (o *ownerOnly) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.SetAttr(cancel, in, out)
}

func (o *ownerOnly) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Mkdir(cancel, in, name, out)
}

func (o *ownerOnly) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Mknod(cancel, in, name, out)
}

func (o *ownerOnly) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if !o.lets(h) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Symlink(cancel, h, target, name, out)
}

func (o *ownerOnly) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Link(cancel, in, name, out)
}

func (o *ownerOnly) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if !o.lets(h) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Unlink(cancel, h, name)
}

func (o *ownerOnly) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if !o.lets(h) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Rmdir(cancel, h, name)
}

func (o *ownerOnly) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Rename(cancel, in, oldName, newName)
}

func (o *ownerOnly) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Create(cancel, in, name, out)
}

func (o *ownerOnly) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.Open(cancel, in, out)
}

func (o *ownerOnly) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !o.lets(&in.InHeader) {
		return fuse.EACCES
	}
	return o.RawFileSystem.OpenDir(cancel, in, out)
}

func (o *ownerOnly) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	if !o.lets(h) {
		return fuse.EACCES
	}
	return o.RawFileSystem.StatFs(cancel, h, out)
}
