package sftpwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Name is one entry of a folder.
type Name struct {
	Name string // as the server sent it: anything at all
	Stat Stat
}

// Stat are the attributes that a server sends; what it leaves out is zero.
type Stat struct {
	Size         uint64
	UID, GID     uint32
	Permissions  uint32 // with the type, as st_mode
	Atime, Mtime uint32 // seconds since the epoch
}

const (
	typeOpendir = 11
	typeReaddir = 12
	typeName    = 104

	statusEOF    = 1
	attrExtended = 1 << 31

	// maxHandle is the longest handle (draft-ietf-secsh-filexfer-02, section 6.2).
	maxHandle = 256
	// maxReaddirs is how many requests of one listing are under way.
	maxReaddirs = 16
)

// ErrTooLarge says that a server listed more than was allowed.
var ErrTooLarge = errors.New("sftp: folder too large")

// ReadDir lists a folder without "." and "..": at most so many entries, whose
// names take at most 64 bytes each on average. Requests are sent one behind the
// other, since a server puts few names into a reply: two at first, which is all that a small folder
// takes, and more when these are answered, so that none is sent of which the answer is not needed.
func (s *Session) ReadDir(ctx context.Context, path string, most int) ([]Name, error) {
	r, err := wait(ctx, s.send(typeOpendir, s.appendPath(nil, path), nil))
	if err != nil {
		return nil, err
	}
	handle, err := parseHandle(r)
	if err != nil {
		return nil, err
	}
	defer s.send(typeClose, appendString(nil, handle), nil)
	var names []Name
	var replies []<-chan reply
	space, seen := 64*most, 0
	for ahead, more, end := 2, true, false; !end || len(replies) > 0; {
		for more && !end && len(replies) < ahead {
			replies = append(replies, s.send(typeReaddir, appendString(nil, handle), nil))
		}
		r, err := wait(ctx, replies[0])
		if err != nil {
			return nil, err
		}
		replies = replies[1:]
		if more = ahead > 2 || len(replies) == 0; more {
			ahead = min(2*ahead, max(2, most/512), maxReaddirs) // each answer may take a packet of memory
		}
		some, err := parseNames(r)
		var status *StatusError
		if errors.As(err, &status) && status.Code == statusEOF {
			end = true
			continue
		}
		if err != nil {
			return nil, err
		}
		seen += len(some)
		for _, n := range some {
			if n.Name != "." && n.Name != ".." {
				space -= len(n.Name)
				names = append(names, n)
			}
		}
		if len(names) > most || seen > 2*most+16 || space < 0 {
			return nil, fmt.Errorf("%w: more than %d entries", ErrTooLarge, most)
		}
	}
	return names, nil
}

func parseHandle(r reply) (string, error) {
	switch r.typ {
	case typeHandle:
		h, _, err := takeString(r.body)
		if err == nil && len(h) > maxHandle {
			err = fmt.Errorf("sftp: handle of %d bytes", len(h))
		}
		return h, err
	case typeStatus:
		if err := parseStatus(r.body); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("sftp: reply of type %d instead of a handle", r.typ)
}

// parseNames reads the entries of one reply.
func parseNames(r reply) ([]Name, error) {
	switch r.typ {
	case typeName:
	case typeStatus:
		if err := parseStatus(r.body); err != nil {
			return nil, err
		}
		fallthrough
	default:
		return nil, fmt.Errorf("sftp: reply of type %d instead of names", r.typ)
	}
	count, b, err := takeUint32(r.body)
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, errors.New("sftp: reply without names") // it could go on for ever
	}
	var names []Name // grows with what is there, not with what is announced
	for range count {
		var n Name
		if n.Name, b, err = takeString(b); err != nil {
			return nil, err
		}
		if _, b, err = takeBytes(b); err != nil { // the line of ls -l
			return nil, err
		}
		if n.Stat, b, err = takeStat(b); err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// takeStat cuts attributes off the front of a packet (section 5).
func takeStat(b []byte) (st Stat, rest []byte, err error) {
	flags, b, err := takeUint32(b)
	if err != nil {
		return st, nil, err
	}
	need := 0
	for flag, size := range map[uint32]int{attrSize: 8, attrUIDGID: 8, attrPermissions: 4, attrACModTime: 8} {
		if flags&flag != 0 {
			need += size
		}
	}
	if len(b) < need {
		return st, nil, errShort
	}
	four := func() (n uint32) {
		n, b = binary.BigEndian.Uint32(b), b[4:]
		return n
	}
	if flags&attrSize != 0 {
		st.Size, b = binary.BigEndian.Uint64(b), b[8:]
	}
	if flags&attrUIDGID != 0 {
		st.UID, st.GID = four(), four()
	}
	if flags&attrPermissions != 0 {
		st.Permissions = four()
	}
	if flags&attrACModTime != 0 {
		st.Atime, st.Mtime = four(), four()
	}
	if flags&attrExtended == 0 {
		return st, b, nil
	}
	count, b, err := takeUint32(b)
	for i := uint64(0); err == nil && i < 2*uint64(count); i++ { // pairs; ends with the packet
		_, b, err = takeBytes(b)
	}
	return st, b, err
}
