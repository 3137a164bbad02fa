package sftpwire

import (
	"context"
	"encoding/binary"
	"fmt"
)

const (
	typeLstat = 7
	typeFstat = 8
	typeStat  = 17
	typeAttrs = 105
)

// StatRequest is a question for attributes that was sent.
type StatRequest struct{ c <-chan reply }

// Wait returns the attributes, or the context's error when that ends first.
func (r StatRequest) Wait(ctx context.Context) (Stat, error) {
	p, err := wait(ctx, r.c)
	if err != nil {
		return Stat{}, err
	}
	switch p.typ {
	case typeAttrs:
		st, _, err := takeStat(p.body)
		return st, err
	case typeStatus:
		if err := parseStatus(p.body); err != nil {
			return Stat{}, err
		}
	}
	return Stat{}, fmt.Errorf("sftp: reply of type %d instead of attributes", p.typ)
}

// Lstat asks for the attributes of a path, of a symbolic link itself.
func (s *Session) Lstat(path string) StatRequest {
	return StatRequest{s.send(typeLstat, s.appendPath(nil, path), nil)}
}

// Stat asks for the attributes of what a path leads to.
func (s *Session) Stat(path string) StatRequest {
	return StatRequest{s.send(typeStat, s.appendPath(nil, path), nil)}
}

// Fstat asks for the attributes of an open file.
func (s *Session) Fstat(handle string) StatRequest {
	return StatRequest{s.send(typeFstat, appendString(nil, handle), nil)}
}

// OpenRequest is an open that was sent. Whoever does not wait for it leaves the
// handle open until the session ends.
type OpenRequest struct{ c <-chan reply }

// Wait returns the handle, or the context's error when that ends first.
func (r OpenRequest) Wait(ctx context.Context) (handle string, err error) {
	p, err := wait(ctx, r.c)
	if err != nil {
		return "", err
	}
	return parseHandle(p)
}

// SendOpen opens a file. The attributes' permissions are those of a file that is
// created, less the server's umask.
func (s *Session) SendOpen(path string, flags uint32, a Attrs) OpenRequest {
	b := s.appendPath(nil, path)
	b = binary.BigEndian.AppendUint32(b, flags)
	return OpenRequest{s.send(typeOpen, a.append(b), nil)}
}

// SendMkdir, SendSymlink, SendHardlink, SendSetstat, SendRemove, SendRmdir, SendRename and
// SendPosixRename are Mkdir, Symlink, Hardlink, Setstat, Remove, Rmdir, Rename and PosixRename
// for who asks something more before he waits.
func (s *Session) SendMkdir(path string, permissions uint32) Request {
	a := Attrs{Permissions: &permissions}
	return Request{s.send(typeMkdir, a.append(s.appendPath(nil, path)), nil)}
}

func (s *Session) SendSymlink(target, path string) Request {
	return Request{s.send(typeSymlink, s.appendPath(appendString(nil, target), path), nil)}
}

func (s *Session) SendHardlink(oldPath, newPath string) Request {
	b := appendString(nil, ExtHardlink)
	return Request{s.send(typeExtended, s.appendPath(s.appendPath(b, oldPath), newPath), nil)}
}

func (s *Session) SendSetstat(path string, a Attrs, nofollow bool) Request {
	if !nofollow {
		return Request{s.send(typeSetstat, a.append(s.appendPath(nil, path)), nil)}
	}
	b := s.appendPath(appendString(nil, ExtLSetstat), path)
	return Request{s.send(typeExtended, a.append(b), nil)}
}

func (s *Session) SendRemove(path string) Request {
	return Request{s.send(typeRemove, s.appendPath(nil, path), nil)}
}

func (s *Session) SendRmdir(path string) Request {
	return Request{s.send(typeRmdir, s.appendPath(nil, path), nil)}
}

func (s *Session) SendRename(oldPath, newPath string) Request {
	return Request{s.send(typeRename, s.appendPath(s.appendPath(nil, oldPath), newPath), nil)}
}

func (s *Session) SendPosixRename(oldPath, newPath string) Request {
	b := appendString(nil, ExtPosixRename)
	return Request{s.send(typeExtended, s.appendPath(s.appendPath(b, oldPath), newPath), nil)}
}
