package fs

import (
	"log/slog"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bundlefs/fs/vfs"
)

// glue translates the kernel's requests to a vfs.FileSystem. It holds no state but counters.
type glue struct {
	fuse.RawFileSystem // what is not here answers ENOSYS, which the kernel remembers
	files              vfs.FileSystem
	log                *slog.Logger
	calls              *calls
	times              *latencies
	attrChanged        func(vfs.Ino) // has the kernel forget attributes, within a request
}

var _ fuse.RawFileSystem = (*glue)(nil)

func newGlue(files vfs.FileSystem, log *slog.Logger, calls *calls, attrChanged func(vfs.Ino)) *glue {
	return &glue{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), files: files, log: log, calls: calls, times: new(latencies),
		attrChanged: attrChanged,
	}
}

func (g *glue) String() string { return "bundlefs" }

// status turns an error into what the kernel gets. An EIO tells the program
// nothing, so the log gets the cause.
func (g *glue) status(err error) fuse.Status {
	errno := vfs.Errno(err)
	if errno == syscall.EIO {
		g.log.Error("input/output error", "error", err)
	}
	return fuse.Status(errno)
}

// attr fills in the kernel's attributes.
func attr(a vfs.Attr, out *fuse.Attr) {
	out.Ino = uint64(a.Ino)
	out.Mode = a.Mode
	out.Nlink = a.Nlink
	out.Owner = fuse.Owner{Uid: a.UID, Gid: a.GID}
	out.Size = a.Size
	out.Blocks = (a.Size + 511) / 512
	out.Blksize = 4096
	out.Atime, out.Atimensec = sinceEpoch(a.Atime)
	out.Mtime, out.Mtimensec = sinceEpoch(a.Mtime)
	out.Ctime, out.Ctimensec = sinceEpoch(a.Ctime)
}

// sinceEpoch splits nanoseconds since the epoch.
func sinceEpoch(ns int64) (uint64, uint32) {
	t := time.Unix(0, ns)
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

// entry fills in the kernel's answer to a lookup.
func entry(e vfs.Entry, out *fuse.EntryOut) {
	out.NodeId = uint64(e.Attr.Ino)
	out.Generation = 1
	out.EntryValid, out.EntryValidNsec = seconds(e.NameValid)
	out.AttrValid, out.AttrValidNsec = seconds(e.AttrValid)
	attr(e.Attr, &out.Attr)
}

func opened(o vfs.Opened, out *fuse.OpenOut) {
	out.Fh = uint64(o.Handle)
	if o.KeepCache {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	if o.DirectIO {
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	}
	if o.NoFlush {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
}

// Lookup implements fuse.RawFileSystem. "Does not exist" is an answer with an
// inode number of zero where the kernel may remember it.
func (g *glue) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	ctx, answered := g.request(cancel, h)
	defer answered()
	e, err := g.files.Lookup(ctx, vfs.Ino(h.NodeId), name)
	if err != nil {
		if vfs.Errno(err) == syscall.ENOENT && e.NameValid > 0 {
			*out = fuse.EntryOut{}
			out.EntryValid, out.EntryValidNsec = seconds(e.NameValid)
			return fuse.OK
		}
		return g.status(err)
	}
	entry(e, out)
	return fuse.OK
}

func (g *glue) Forget(ino, n uint64) { g.files.Forget(vfs.Ino(ino), n) }

func (g *glue) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var h vfs.Handle
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		h = vfs.Handle(in.Fh())
	}
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	e, err := g.files.Getattr(ctx, vfs.Ino(in.NodeId), h)
	return g.attrOut(e, err, out)
}

func (g *glue) attrOut(e vfs.Entry, err error, out *fuse.AttrOut) fuse.Status {
	if err != nil {
		return g.status(err)
	}
	out.AttrValid, out.AttrValidNsec = seconds(e.AttrValid)
	attr(e.Attr, &out.Attr)
	return fuse.OK
}

func (g *glue) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	var h vfs.Handle
	if fh, ok := in.GetFh(); ok {
		h = vfs.Handle(fh)
	}
	var set vfs.SetAttr
	if mode, ok := in.GetMode(); ok {
		mode &= 0o7777
		set.Mode = &mode
	}
	if uid, ok := in.GetUID(); ok {
		set.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		set.GID = &gid
	}
	if size, ok := in.GetSize(); ok {
		set.Size = &size
	}
	if t, ok := in.GetATime(); ok {
		ns := t.UnixNano()
		set.Atime = &ns
	}
	if t, ok := in.GetMTime(); ok {
		ns := t.UnixNano()
		set.Mtime = &ns
	}
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	e, err := g.files.Setattr(ctx, vfs.Ino(in.NodeId), h, set)
	return g.attrOut(e, err, out)
}

func (g *glue) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	ctx, answered := g.request(cancel, h)
	defer answered()
	target, err := g.files.Readlink(ctx, vfs.Ino(h.NodeId))
	return []byte(target), g.status(err)
}

func (g *glue) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	ctx, answered := g.request(cancel, h)
	defer answered()
	v, err := g.files.Statfs(ctx)
	if err != nil {
		return g.status(err)
	}
	*out = fuse.StatfsOut{
		Bsize: v.BlockSize, Frsize: v.FragmentSize, Blocks: v.Blocks, Bfree: v.Free, Bavail: v.Available,
		Files: v.Files, Ffree: v.FilesFree, NameLen: v.NameMax,
	}
	return fuse.OK
}

// Access is asked only where the kernel does not check permissions itself; the
// node does, at each request.
func (g *glue) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// made answers a request that made a name.
func (g *glue) made(e vfs.Entry, err error, out *fuse.EntryOut) fuse.Status {
	if err != nil {
		return g.status(err)
	}
	entry(e, out)
	return fuse.OK
}

func (g *glue) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	e, err := g.files.Mkdir(ctx, vfs.Ino(in.NodeId), name, in.Mode&0o7777)
	return g.made(e, err, out)
}

// Mknod makes regular files for programs that do so by mknod(2) (and for the NFS
// server); others do not exist in SFTP.
func (g *glue) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if t := in.Mode & vfs.TypeMask; t != vfs.TypeRegular && t != 0 {
		return fuse.Status(syscall.EPERM) // mknod(2): the file system does not support the type
	}
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	e, o, err := g.files.Create(ctx, vfs.Ino(in.NodeId), name, syscall.O_WRONLY|syscall.O_EXCL, in.Mode&0o7777)
	if err == nil {
		g.files.Release(o.Handle)
	}
	return g.made(e, err, out)
}

func (g *glue) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	ctx, answered := g.request(cancel, h)
	defer answered()
	e, err := g.files.Symlink(ctx, vfs.Ino(h.NodeId), name, target)
	return g.made(e, err, out)
}

func (g *glue) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	e, err := g.files.Link(ctx, vfs.Ino(in.Oldnodeid), vfs.Ino(in.NodeId), name)
	return g.made(e, err, out)
}

func (g *glue) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	ctx, answered := g.request(cancel, h)
	defer answered()
	return g.status(g.files.Unlink(ctx, vfs.Ino(h.NodeId), name))
}

func (g *glue) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	ctx, answered := g.request(cancel, h)
	defer answered()
	return g.status(g.files.Rmdir(ctx, vfs.Ino(h.NodeId), name))
}

// Rename refuses RENAME_EXCHANGE and RENAME_WHITEOUT with EINVAL, as rename(2)
// says for a file system that does not have them.
func (g *glue) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	const renameNoReplace = 1 // RENAME_NOREPLACE of linux/fs.h
	mode := vfs.RenameReplace
	switch in.Flags {
	case 0:
	case renameNoReplace:
		mode = vfs.RenameNoReplace
	default:
		return fuse.EINVAL
	}
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	return g.status(g.files.Rename(ctx, vfs.Ino(in.NodeId), oldName, vfs.Ino(in.Newdir), newName, mode))
}
