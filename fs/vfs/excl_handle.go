package vfs

import (
	"io"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"
)

// openFile is a file that exclusive mode reads from the node.
type openFile struct {
	path    string // when it was opened; for messages
	session *session
	remote  *sftp.File
}

// usable reports whether the connection that the handle belongs to is still there.
func (f *openFile) usable() bool { return !f.session.conn.isLost() }

// readAt fills p as far as the file goes. One read of the node may bring less
// than was asked for; only the node's EOF is the end.
func (f *openFile) readAt(p []byte, off int64) ([]byte, error) {
	size := f.session.conn.data
	got := make([]int, (len(p)+size-1)/size)
	var g errgroup.Group
	for i := range got {
		g.Go(func() (err error) {
			from, to := i*size, min((i+1)*size, len(p))
			if got[i], err = f.remote.ReadAt(p[from:to], off+int64(from)); err == io.EOF {
				err = nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	total := 0
	for _, n := range got {
		if total += n; n < size {
			break
		}
	}
	return p[:total], nil
}
