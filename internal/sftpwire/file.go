package sftpwire

import (
	"context"
	"encoding/binary"
)

// Flags of Open (draft-ietf-secsh-filexfer-02, section 6.3).
const (
	FlagRead      = 1 << 0
	FlagWrite     = 1 << 1
	FlagAppend    = 1 << 2
	FlagCreate    = 1 << 3
	FlagTruncate  = 1 << 4
	FlagExclusive = 1 << 5
)

// Names of more extensions (OpenSSH, PROTOCOL, section 4).
const (
	ExtPosixRename = "posix-rename@openssh.com"
	ExtHardlink    = "hardlink@openssh.com"
	ExtFsync       = "fsync@openssh.com"
)

// Request is a request that was sent and is answered with a status. Several may
// be under way on one session; a server answers those on one handle in order.
type Request struct{ c <-chan reply }

// Wait returns the server's answer, or the context's error when that ends first.
func (r Request) Wait(ctx context.Context) error { return status(ctx, r.c) }

// Open opens a file and returns its handle. The attributes' permissions are those
// of a file that is created, less the server's umask.
func (s *Session) Open(ctx context.Context, path string, flags uint32, a Attrs) (handle string, err error) {
	return s.SendOpen(path, flags, a).Wait(ctx)
}

// Write writes data at an offset.
func (s *Session) Write(handle string, off uint64, data []byte) Request {
	b := appendString(nil, handle)
	b = binary.BigEndian.AppendUint64(b, off)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return Request{s.send(typeWrite, b, data)}
}

// Fsetstat sets attributes of an open file.
func (s *Session) Fsetstat(handle string, a Attrs) Request {
	return Request{s.send(typeFsetstat, a.append(appendString(nil, handle)), nil)}
}

// Fsync writes an open file to the server's disk; the server must have announced [ExtFsync].
func (s *Session) Fsync(handle string) Request {
	return Request{s.send(typeExtended, appendString(appendString(nil, ExtFsync), handle), nil)}
}

// CloseHandle closes a handle.
func (s *Session) CloseHandle(handle string) Request {
	return Request{s.send(typeClose, appendString(nil, handle), nil)}
}

// Mkdir makes a folder with permissions, less the server's umask.
func (s *Session) Mkdir(ctx context.Context, path string, permissions uint32) error {
	return s.SendMkdir(path, permissions).Wait(ctx)
}

// Rmdir removes an empty folder.
func (s *Session) Rmdir(ctx context.Context, path string) error {
	return s.SendRmdir(path).Wait(ctx)
}

// Rename renames to a name that must not exist.
func (s *Session) Rename(ctx context.Context, oldPath, newPath string) error {
	return s.SendRename(oldPath, newPath).Wait(ctx)
}

// PosixRename renames and replaces; the server must have announced [ExtPosixRename].
func (s *Session) PosixRename(ctx context.Context, oldPath, newPath string) error {
	return s.SendPosixRename(oldPath, newPath).Wait(ctx)
}

// Hardlink makes another name; the server must have announced [ExtHardlink].
func (s *Session) Hardlink(ctx context.Context, oldPath, newPath string) error {
	return s.SendHardlink(oldPath, newPath).Wait(ctx)
}

// Symlink makes a symbolic link at path. The fields are in the order of OpenSSH,
// which is not the draft's (PROTOCOL, section 4.1), and which everybody follows.
func (s *Session) Symlink(ctx context.Context, target, path string) error {
	return s.SendSymlink(target, path).Wait(ctx)
}
