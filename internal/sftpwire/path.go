package sftpwire

import (
	"context"
	"fmt"
	"strings"
)

const (
	typeRealpath = 16
	typeReadlink = 19

	// maxPath is the longest path that is taken from a server: twice PATH_MAX of Linux.
	maxPath = 8192
)

// ExtStatVFS is an extension (OpenSSH, PROTOCOL, section 4.4).
const ExtStatVFS = "statvfs@openssh.com"

// PathRequest is a question for a path that was sent.
type PathRequest struct{ c <-chan reply }

// Wait returns the path, or the context's error when that ends first. It is not
// empty, has no NUL, and is at most 8192 bytes long; else it is anything at all.
func (r PathRequest) Wait(ctx context.Context) (string, error) {
	p, err := wait(ctx, r.c)
	if err != nil {
		return "", err
	}
	switch p.typ {
	case typeName:
		return parsePath(p.body)
	case typeStatus:
		if err := parseStatus(p.body); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("sftp: reply of type %d instead of a path", p.typ)
}

// parsePath reads the one name of a reply.
func parsePath(b []byte) (string, error) {
	count, b, err := takeUint32(b)
	if err != nil {
		return "", err
	}
	if count != 1 {
		return "", fmt.Errorf("sftp: %d names instead of one path", count)
	}
	raw, _, err := takeBytes(b)
	switch {
	case err != nil:
		return "", err
	case len(raw) == 0:
		return "", fmt.Errorf("sftp: empty path")
	case len(raw) > maxPath:
		return "", fmt.Errorf("sftp: path of %d bytes (at most %d are taken)", len(raw), maxPath)
	}
	path := string(raw)
	if strings.Contains(path, "\x00") {
		return "", fmt.Errorf("sftp: path with a NUL byte")
	}
	return path, nil
}

// RealPath asks for the absolute form of a path.
func (s *Session) RealPath(path string) PathRequest {
	return PathRequest{s.send(typeRealpath, s.appendPath(nil, path), nil)}
}

// ReadLink asks for the target of a symbolic link.
func (s *Session) ReadLink(path string) PathRequest {
	return PathRequest{s.send(typeReadlink, s.appendPath(nil, path), nil)}
}

// StatVFS are the figures of a file system, as statvfs(3) names them. They are the
// server's word: any of them may be zero, or the largest there is.
type StatVFS struct {
	Bsize, Frsize         uint64 // bytes
	Blocks, Bfree, Bavail uint64 // in units of Frsize
	Files, Ffree, Favail  uint64
	Fsid, Flag, NameMax   uint64
}

// StatVFS asks for the file system that holds path; the server must have announced
// [ExtStatVFS].
func (s *Session) StatVFS(ctx context.Context, path string) (*StatVFS, error) {
	r, err := wait(ctx, s.send(typeExtended, s.appendPath(appendString(nil, ExtStatVFS), path), nil))
	if err != nil {
		return nil, err
	}
	switch r.typ {
	case typeReply:
	case typeStatus:
		if err := parseStatus(r.body); err != nil {
			return nil, err
		}
		fallthrough
	default:
		return nil, fmt.Errorf("sftp: reply of type %d to %s", r.typ, ExtStatVFS)
	}
	v, b := new(StatVFS), r.body
	for _, field := range []*uint64{
		&v.Bsize, &v.Frsize, &v.Blocks, &v.Bfree, &v.Bavail, &v.Files, &v.Ffree, &v.Favail, &v.Fsid, &v.Flag, &v.NameMax,
	} {
		if *field, b, err = takeUint64(b); err != nil {
			return nil, err
		}
	}
	return v, nil
}
