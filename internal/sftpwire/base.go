package sftpwire

import (
	"strings"
	"sync/atomic"
)

// Base has the sessions that share it reach a folder through another name than the one that their
// callers use. It may be set while they are in use, and holds for the requests that are sent from
// then on. The zero Base changes nothing.
type Base struct{ names atomic.Pointer[[2]string] }

// Set has what is at the path folder, and below it, reached through the path name, which leads to
// the same folder; both are absolute.
func (b *Base) Set(folder, name string) { b.names.Store(&[2]string{folder, name}) }

// IsSet tells whether Set was called.
func (b *Base) IsSet() bool { return b.names.Load() != nil }

// path is the path that is sent in place of p.
func (b *Base) path(p string) string {
	if b == nil {
		return p
	}
	names := b.names.Load()
	if names == nil {
		return p
	}
	below, ok := strings.CutPrefix(p, names[0])
	switch {
	case !ok:
		return p
	case below == "":
		return names[1] + "/." // the folder, also where the name is a symbolic link
	case below[0] == '/':
		return names[1] + below
	}
	return p
}

// SetBase says which base the session has. It is called before the session is used.
func (s *Session) SetBase(b *Base) { s.base = b }

// appendPath appends a path as it is sent.
func (s *Session) appendPath(b []byte, path string) []byte {
	return appendString(b, s.base.path(path))
}
