package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"bundlefs/internal/sftpwire"
)

func TestErrno(t *testing.T) {
	wire := func(code uint32) error { return &sftpwire.StatusError{Code: code} }
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{syscall.ENOTEMPTY, syscall.ENOTEMPTY},
		{&Error{"open", "/x", syscall.EISDIR}, syscall.EISDIR},
		{fmt.Errorf("a: %w", fmt.Errorf("b: %w", syscall.ENOSPC)), syscall.ENOSPC},
		{context.Canceled, syscall.EINTR},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{fmt.Errorf("%w: %v", context.DeadlineExceeded, errLost), syscall.ETIMEDOUT},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, errLost), syscall.ETIMEDOUT},
		{os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
		{os.ErrNotExist, syscall.ENOENT},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, syscall.ENOENT},
		{os.ErrPermission, syscall.EACCES},
		{os.ErrExist, syscall.EEXIST},
		{os.ErrClosed, syscall.EBADF},
		{wire(fxNoSuchFile), syscall.ENOENT},
		{wire(fxPermissionDenied), syscall.EACCES},
		{wire(fxOpUnsupported), syscall.EOPNOTSUPP},
		{wire(fxFailure), syscall.EIO},
		// What ends a connection has an errno that is not the request's.
		{errLost, syscall.EIO},
		{fmt.Errorf("%w: %w", sftpwire.ErrClosed, &net.OpError{Op: "read", Err: syscall.ECONNRESET}), syscall.EIO},
		{errClosed, syscall.EIO},
		{io.EOF, syscall.EIO},
		{errors.New("unheard of"), syscall.EIO},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
