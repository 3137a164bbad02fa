package vfs

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"bundlefs/internal/sftpwire"
)

// Codes of SSH_FXP_STATUS that are told apart here (draft-ietf-secsh-filexfer-02,
// section 7, and OpenSSH's sftp.h).
const (
	fxNoSuchFile       = 2
	fxPermissionDenied = 3
	fxFailure          = 4
	fxBadMessage       = 5
	fxNoConnection     = 6
	fxConnectionLost   = 7
	fxOpUnsupported    = 8
)

// Error says which operation failed on which path of the node.
type Error struct {
	Op   string // as in the manual pages: "open", "rename"
	Path string // on the node
	Err  error
}

func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Errno is the one place where an error becomes an errno: zero for nil, EIO for
// whatever is not known. What SFTP says with too few words (OpenSSH's server
// answers FAILURE for EEXIST, ENOTEMPTY, EXDEV and others alike) has been found
// out by the operation that met it and is a [syscall.Errno] by now.
func Errno(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return syscall.ETIMEDOUT
	case isLost(err): // before the errno of the link, as ECONNRESET
		return syscall.EIO
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, os.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, os.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, os.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, os.ErrClosed):
		return syscall.EBADF
	}
	switch statusCode(err) {
	case fxNoSuchFile:
		return syscall.ENOENT
	case fxPermissionDenied:
		return syscall.EACCES
	case fxOpUnsupported:
		return syscall.EOPNOTSUPP
	}
	return syscall.EIO
}

// statusCode is the code of the server's status in err, 0 if there is none.
func statusCode(err error) uint32 {
	var wire *sftpwire.StatusError
	if errors.As(err, &wire) {
		return wire.Code
	}
	return 0
}

// isLost reports whether err says that the connection ended under the request,
// so that it is not known whether the node did it. A request that gave up waiting
// for a connection is not one of those.
func isLost(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch statusCode(err) {
	case fxConnectionLost, fxNoConnection:
		return true
	}
	return errors.Is(err, sftpwire.ErrClosed) || errors.Is(err, errLost) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

// isFailure reports whether err is the node's FAILURE or BAD_MESSAGE, whose
// cause must be found out.
func isFailure(err error) bool {
	code := statusCode(err)
	return code == fxFailure || code == fxBadMessage
}
