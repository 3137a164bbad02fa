package sftpwire

import (
	"context"
	"fmt"
)

// Names of the extensions (OpenSSH, PROTOCOL, section 4).
const (
	ExtLimits   = "limits@openssh.com"
	ExtLSetstat = "lsetstat@openssh.com"
)

// Limits is what a server takes; zero means that it did not say.
type Limits struct {
	Packet  uint64 // bytes, whole packet
	Read    uint64 // bytes of data in one read
	Write   uint64 // bytes of data in one write
	Handles uint64 // open at once
}

// Limits asks for the server's limits; without the extension it returns zeroes
// and asks nothing.
func (s *Session) Limits(ctx context.Context) (Limits, error) {
	if _, ok := s.Extension(ExtLimits); !ok {
		return Limits{}, nil
	}
	r, err := wait(ctx, s.send(typeExtended, appendString(nil, ExtLimits), nil))
	if err != nil {
		return Limits{}, err
	}
	if r.typ != typeReply {
		return Limits{}, fmt.Errorf("sftp: reply of type %d to %s", r.typ, ExtLimits)
	}
	var l Limits
	b := r.body
	for _, field := range []*uint64{&l.Packet, &l.Read, &l.Write, &l.Handles} {
		if *field, b, err = takeUint64(b); err != nil {
			return Limits{}, err
		}
	}
	return l, nil
}

// Setstat sets attributes of path in one request. With nofollow a symbolic link
// itself is meant and not what it points to; the server must have announced
// [ExtLSetstat] for it.
func (s *Session) Setstat(ctx context.Context, path string, a Attrs, nofollow bool) error {
	return s.SendSetstat(path, a, nofollow).Wait(ctx)
}

// Remove removes a file, never a folder.
func (s *Session) Remove(ctx context.Context, path string) error {
	return s.SendRemove(path).Wait(ctx)
}
