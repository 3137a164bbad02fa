package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"bundlefs/internal/sftpwire"
)

// verdict is what a look at the node tells of a change whose answer was lost.
type verdict int

const (
	notDone verdict = iota
	isDone
	unclear // somebody else may have been at work
)

// change runs a request that changes the name p. When the connection is lost under
// it, look finds out on the next one whether the node has done it: if not, it is
// done again, and if that cannot be told it fails as lost.
func (s *Shared) change(ctx context.Context, p string, request func(x *session) error, look func() (verdict, error)) (err error) {
	defer func() {
		if err != nil {
			s.cache.doubt(p)
		}
	}()
	start := time.Now()
	for again := false; ; again = true {
		_, err := once(ctx, s.link, func(x *session) (struct{}, error) { return struct{}{}, request(x) }, nil)
		lost := isLost(err) && s.link.ctx.Err() == nil
		if !lost && (err == nil || !again || s.link.ctx.Err() != nil) {
			return err
		}
		found, lookErr := look()
		switch {
		case lookErr != nil:
			return lookErr
		case found == isDone: // by the server of the lost connection, perhaps after the last look
			return nil
		case !lost || found == unclear:
			return err
		case s.link.timeout > 0 && time.Since(start) > s.link.timeout:
			return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}

// lookAt tells what has a name on the node: nil if nothing has.
func (s *Shared) lookAt(ctx context.Context, p string) (*sftpwire.Stat, error) {
	st, err := s.lstat(ctx, p)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	st.Atime = 0 // reading changes it
	return st, nil
}

// madeDir, madeFile, madeSymlink and madeLink look whether a name was made. What has it must be as it was to be made:
// empty, or leading to the same.
func (s *Shared) madeDir(ctx context.Context, p string) func() (verdict, error) {
	return func() (verdict, error) {
		st, err := s.lookAt(ctx, p)
		switch {
		case err != nil || st == nil:
			return notDone, err
		case st.Permissions&TypeMask != TypeDir || s.hasEntries(ctx, p):
			return unclear, nil
		}
		return isDone, nil
	}
}

func (s *Shared) madeFile(ctx context.Context, p string) func() (verdict, error) {
	return func() (verdict, error) {
		st, err := s.lookAt(ctx, p)
		switch {
		case err != nil || st == nil:
			return notDone, err
		case st.Permissions&TypeMask != TypeRegular || st.Size != 0:
			return unclear, nil
		}
		return isDone, nil
	}
}

func (s *Shared) madeSymlink(ctx context.Context, target, p string) func() (verdict, error) {
	return func() (verdict, error) {
		is, err := ask(ctx, s.link, func(x *session) (string, error) { return x.ReadLink(p).Wait(context.Background()) })
		switch {
		case errors.Is(err, os.ErrNotExist):
			return notDone, nil
		case isFailure(err) || err == nil && is != target:
			return unclear, nil
		}
		return isDone, err
	}
}

func (s *Shared) madeLink(ctx context.Context, old, p string) func() (verdict, error) {
	return func() (verdict, error) {
		st, err := s.lookAt(ctx, p)
		if err != nil || st == nil {
			return notDone, err
		}
		from, err := s.lookAt(ctx, old)
		switch {
		case err != nil:
			return unclear, err
		case from == nil || *from != *st:
			return unclear, nil
		}
		return isDone, nil
	}
}

// removed looks whether a name was removed. What has it still must be what had it.
func (s *Shared) removed(ctx context.Context, n *node, p string) func() (verdict, error) {
	return func() (verdict, error) {
		st, err := s.lookAt(ctx, p)
		switch {
		case err != nil:
			return unclear, err
		case st == nil:
			return isDone, nil
		case !s.tree.mayBe(n, *st):
			return unclear, nil
		}
		return notDone, nil
	}
}

// renamed looks whether what was n under its old name has the new one.
func (s *Shared) renamed(ctx context.Context, n *node, oldPath, newPath string) func() (verdict, error) {
	return func() (verdict, error) {
		from, err := s.lookAt(ctx, oldPath)
		if err != nil {
			return unclear, err
		}
		if from != nil {
			if s.tree.mayBe(n, *from) {
				return notDone, nil
			}
			return unclear, nil
		}
		to, err := s.lookAt(ctx, newPath)
		switch {
		case err != nil:
			return unclear, err
		case to == nil || !s.tree.mayBe(n, *to):
			return unclear, nil
		}
		return isDone, nil
	}
}

// mayBe reports whether attributes can be those of n, which may be nil when
// nothing is known.
func (t *tree) mayBe(n *node, st sftpwire.Stat) bool {
	if n == nil {
		return true
	}
	if n.mode == TypeRegular {
		return t.isSame(n, st)
	}
	return saneMode(st.Permissions)&TypeMask == n.mode
}

// createRemote opens a file that must not exist, with its attributes and those of its folder. When the
// connection is lost under it, an empty file is taken for the one that was made.
func (s *Shared) createRemote(ctx context.Context, p string, flags uint32, mode *uint32, folder folderLooks) (o *openedFile, err error) {
	start := time.Now()
	look := s.madeFile(ctx, p)
	for again := false; ; again = true {
		o, err = s.openStat(ctx, p, wireFlags(flags|syscall.O_CREAT|syscall.O_EXCL), mode, true, folder)
		lost := isLost(err) && s.link.ctx.Err() == nil
		if !lost && (err == nil || !again || s.link.ctx.Err() != nil) {
			return o, err
		}
		found, lookErr := look()
		switch {
		case lookErr != nil:
			return nil, lookErr
		case found == isDone:
			o, err = s.openStat(ctx, p, wireFlags(flags&^(syscall.O_CREAT|syscall.O_EXCL)), nil, true, nil)
			if isLost(err) && s.link.ctx.Err() == nil {
				continue
			}
			return o, err
		case !lost || found == unclear:
			return nil, err
		case s.link.timeout > 0 && time.Since(start) > s.link.timeout:
			return nil, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
	}
}
