package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bundlefs/fs/vfs"
)

func (g *glue) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	e, o, err := g.files.Create(ctx, vfs.Ino(in.NodeId), name, in.Flags, in.Mode&0o7777)
	if err != nil {
		return g.status(err)
	}
	entry(e, &out.EntryOut)
	opened(o, &out.OpenOut)
	return fuse.OK
}

func (g *glue) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	o, err := g.files.Open(ctx, vfs.Ino(in.NodeId), in.Flags)
	if err != nil {
		return g.status(err)
	}
	if o.AttrChanged {
		g.attrChanged(vfs.Ino(in.NodeId))
	}
	opened(o, out)
	return fuse.OK
}

func (g *glue) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	n, err := g.files.Read(ctx, vfs.Handle(in.Fh), buf[:min(len(buf), int(in.Size))], int64(in.Offset))
	if err != nil {
		return nil, g.status(err)
	}
	return data(buf[:n]), fuse.OK
}

func (g *glue) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	cached := in.WriteFlags&fuse.WRITE_CACHE != 0
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	if err := g.files.Write(ctx, vfs.Handle(in.Fh), data, int64(in.Offset), cached); err != nil {
		return 0, g.status(err)
	}
	return uint32(len(data)), fuse.OK
}

func (g *glue) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	return g.status(g.files.Flush(ctx, vfs.Handle(in.Fh)))
}

func (g *glue) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	return g.status(g.files.Fsync(ctx, vfs.Handle(in.Fh)))
}

func (g *glue) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { g.files.Release(vfs.Handle(in.Fh)) }

// Fallocate and CopyFileRange do not exist in SFTP; programs have ways without.
func (g *glue) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status {
	return fuse.Status(syscall.EOPNOTSUPP)
}

func (g *glue) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	o, err := g.files.OpenDir(ctx, vfs.Ino(in.NodeId))
	if err != nil {
		return g.status(err)
	}
	opened(o, out)
	return fuse.OK
}

// dots are the two entries that every folder begins with, which vfs leaves out.
var dots = []string{".", ".."}

func (g *glue) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return g.readDir(cancel, in, out, func(e vfs.DirEntry, d fuse.DirEntry) bool {
		return out.AddDirEntry(d)
	})
}

func (g *glue) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return g.readDir(cancel, in, out, func(e vfs.DirEntry, d fuse.DirEntry) bool {
		slot := out.AddDirLookupEntry(d)
		if slot == nil {
			return false
		}
		if e.Name != "" { // not one of the dots, which the kernel does not look up
			if found, ok := g.files.Instantiate(vfs.Handle(in.Fh), e); ok {
				entry(found, slot)
			}
		}
		return true
	})
}

// readDir adds the entries from the offset on until add says that there is no room.
func (g *glue) readDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList, add func(vfs.DirEntry, fuse.DirEntry) bool) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	entries, err := g.files.ReadDir(ctx, vfs.Handle(in.Fh), in.Offset == 0)
	if err != nil {
		return g.status(err)
	}
	pos, skip := in.Offset, uint64(len(dots))
	for ; pos < skip; pos++ {
		if !add(vfs.DirEntry{}, fuse.DirEntry{Name: dots[pos], Mode: vfs.TypeDir, Off: pos + 1}) {
			return fuse.OK
		}
	}
	for _, e := range entries[min(pos-skip, uint64(len(entries))):] {
		pos++
		if !add(e, fuse.DirEntry{Name: e.Name, Mode: e.Attr.Mode, Ino: uint64(e.Attr.Ino), Off: pos}) {
			return fuse.OK
		}
	}
	return fuse.OK
}

func (g *glue) ReleaseDir(in *fuse.ReleaseIn) { g.files.ReleaseDir(vfs.Handle(in.Fh)) }

// FsyncDir is the barrier of the whole mount: the kernel passes on fsync of a
// folder, but not syncfs.
func (g *glue) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ctx, answered := g.request(cancel, &in.InHeader)
	defer answered()
	return g.status(g.files.Sync(ctx, nil))
}
