// Package sftpwire is the client side of SFTP version 3, with the extensions of
// OpenSSH, for the mount: requests are sent one behind the other without waiting for
// the replies, attributes are set several at a time, and all that a server sends is
// bounded.
//
// The packets are those of draft-ietf-secsh-filexfer-02, the extensions those of
// OpenSSH's PROTOCOL file. What the server sends is not trusted: no packet is longer
// than 256 KiB, what is in it grows with what is there and not with what is announced,
// a reply of a type that does not answer the request is an error, and one to nothing
// that was asked ends the session.
package sftpwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Packet types (draft-ietf-secsh-filexfer-02, section 3).
const (
	typeInit     = 1
	typeVersion  = 2
	typeOpen     = 3
	typeClose    = 4
	typeWrite    = 6
	typeSetstat  = 9
	typeFsetstat = 10
	typeRemove   = 13
	typeMkdir    = 14
	typeRmdir    = 15
	typeRename   = 18
	typeSymlink  = 20
	typeStatus   = 101
	typeHandle   = 102
	typeExtended = 200
	typeReply    = 201 // SSH_FXP_EXTENDED_REPLY
)

// maxPacket bounds what is read from the server: OpenSSH's own limit is 256 KiB.
const maxPacket = 256 << 10

// maxMessage is how much of a refusal's text is kept: refusals are, for long.
const maxMessage = 512

// errShort says that a packet ended before what it announced.
var errShort = errors.New("sftp: truncated packet")

// Attribute flags (section 5).
const (
	attrSize        = 1 << 0
	attrUIDGID      = 1 << 1
	attrPermissions = 1 << 2
	attrACModTime   = 1 << 3
)

// Attrs are the attributes of one request; what is nil is not sent. SFTP sends
// UID with GID, and Atime with Mtime: both or neither must be set.
type Attrs struct {
	Size         *uint64
	UID, GID     *uint32
	Permissions  *uint32
	Atime, Mtime *uint32 // seconds since the epoch
}

func (a Attrs) append(b []byte) []byte {
	var flags uint32
	if a.Size != nil {
		flags |= attrSize
	}
	if a.UID != nil {
		flags |= attrUIDGID
	}
	if a.Permissions != nil {
		flags |= attrPermissions
	}
	if a.Mtime != nil {
		flags |= attrACModTime
	}
	b = binary.BigEndian.AppendUint32(b, flags)
	if a.Size != nil {
		b = binary.BigEndian.AppendUint64(b, *a.Size)
	}
	if a.UID != nil {
		b = binary.BigEndian.AppendUint32(b, *a.UID)
		b = binary.BigEndian.AppendUint32(b, *a.GID)
	}
	if a.Permissions != nil {
		b = binary.BigEndian.AppendUint32(b, *a.Permissions)
	}
	if a.Mtime != nil {
		b = binary.BigEndian.AppendUint32(b, *a.Atime)
		b = binary.BigEndian.AppendUint32(b, *a.Mtime)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// takeUint32, takeUint64 and takeString cut a field off the front of a packet.
func takeUint32(b []byte) (uint32, []byte, error) {
	if len(b) < 4 {
		return 0, nil, errShort
	}
	return binary.BigEndian.Uint32(b), b[4:], nil
}

func takeUint64(b []byte) (uint64, []byte, error) {
	if len(b) < 8 {
		return 0, nil, errShort
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}

func takeString(b []byte) (string, []byte, error) {
	s, b, err := takeBytes(b)
	return string(s), b, err
}

// takeBytes is takeString without a copy, for what is to be looked at or skipped.
func takeBytes(b []byte) (s, rest []byte, err error) {
	n, b, err := takeUint32(b)
	if err != nil {
		return nil, nil, err
	}
	if uint64(n) > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}

// parseVersion reads the extensions the server announces, name to data.
func parseVersion(b []byte) (map[string]string, error) {
	v, b, err := takeUint32(b)
	if err != nil {
		return nil, err
	}
	if v < 3 {
		return nil, fmt.Errorf("sftp: server speaks version %d, 3 is needed", v)
	}
	ext := map[string]string{}
	for len(b) > 0 {
		var name, data string
		if name, b, err = takeString(b); err != nil {
			return nil, err
		}
		if data, b, err = takeString(b); err != nil {
			return nil, err
		}
		ext[name] = data
	}
	return ext, nil
}

// StatusError is a server's refusal.
type StatusError struct {
	Code    uint32 // as SSH_FX_… (section 7)
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("sftp: %q (code %d)", e.Message, e.Code)
}

// Is makes the codes that have errors of package os equal to them.
func (e *StatusError) Is(target error) bool {
	const noSuchFile, permissionDenied = 2, 3
	return e.Code == noSuchFile && target == os.ErrNotExist || e.Code == permissionDenied && target == os.ErrPermission
}

// parseStatus returns nil for OK.
func parseStatus(b []byte) error {
	code, b, err := takeUint32(b)
	if err != nil {
		return err
	}
	if code == 0 {
		return nil
	}
	msg, _, _ := takeBytes(b) // servers of old leave it out
	return &StatusError{Code: code, Message: string(msg[:min(len(msg), maxMessage)])}
}
