package mountprog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"bundlefs/fs"
	"bundlefs/fs/paths"
	"bundlefs/fs/vfs"
	"bundlefs/internal/control"
)

var _ control.Streamer = (*serving)(nil)

// files gives the files that a request is about, and what it says. Where there is a mount, the
// kernel would not learn of what is done here, so that only -o nomount does it.
func (s *serving) files(server *fs.Server, op string, args json.RawMessage) (paths.Tree, *control.FileRequest, error) {
	var r control.FileRequest
	switch {
	case server == nil:
		return paths.Tree{}, nil, fail("wait until bundlefs is connected or has given up", "%s is not served yet", s.cfg.mountpoint)
	case !s.cfg.nomount:
		return paths.Tree{}, nil, &control.UnknownOpError{Op: op}
	}
	if err := json.Unmarshal(args, &r); err != nil {
		return paths.Tree{}, nil, fmt.Errorf("%s: %w", op, err)
	}
	return server.Tree(), &r, nil
}

// fileOp answers the requests for files that carry no bytes.
func (s *serving) fileOp(ctx context.Context, server *fs.Server, op string, args json.RawMessage) (any, error) {
	t, r, err := s.files(server, op, args)
	if err != nil {
		return nil, err
	}
	switch op {
	case control.FileLstat:
		a, err := t.Lstat(ctx, r.Path)
		return fileInfo(filepath.Base(r.Path), a), err
	case control.FileList:
		entries, err := t.List(ctx, r.Path)
		list := []control.FileInfo{}
		for _, e := range entries {
			list = append(list, fileInfo(e.Name, e.Attr))
		}
		return list, err
	case control.FileMkdir:
		return struct{}{}, t.MkdirAll(ctx, r.Path, r.Perm&0o7777)
	case control.FileRename:
		return struct{}{}, t.Rename(ctx, r.Path, r.To)
	case control.FileRemove:
		return struct{}{}, t.Remove(ctx, r.Path)
	}
	return nil, &control.UnknownOpError{Op: op}
}

// Receive takes the content of a file (control.Streamer).
func (s *serving) Receive(ctx context.Context, op string, args json.RawMessage, in io.Reader) (any, error) {
	t, r, err := s.files(s.server.Load(), op, args)
	if err != nil {
		return nil, err
	}
	if op != control.FileWrite {
		return nil, &control.UnknownOpError{Op: op}
	}
	return struct{}{}, t.Write(ctx, r.Path, r.Perm&0o7777, time.Unix(0, r.Mtime), in)
}

// Send gives the content of a file (control.Streamer).
func (s *serving) Send(ctx context.Context, op string, args json.RawMessage, out io.Writer) (any, error) {
	t, r, err := s.files(s.server.Load(), op, args)
	if err != nil {
		return nil, err
	}
	if op != control.FileRead {
		return nil, &control.UnknownOpError{Op: op}
	}
	return struct{}{}, t.Read(ctx, r.Path, out)
}

func fileInfo(name string, a vfs.Attr) control.FileInfo {
	return control.FileInfo{Name: name, Mode: a.Mode, Size: int64(a.Size), Mtime: a.Mtime}
}
