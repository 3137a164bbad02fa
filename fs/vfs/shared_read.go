package vfs

import (
	"context"
	"io"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// wideBytes is from where on reading on makes it worth to use several sessions.
const wideBytes = 1 << 20

// Read implements [FileSystem].
func (s *Shared) Read(ctx context.Context, h Handle, dest []byte, off int64) (int, error) {
	f := s.file(h)
	if f == nil {
		return 0, &Error{"read", "", syscall.EBADF}
	}
	if off == 0 && f.isSmall() && s.readsAhead() {
		s.next.read(f.node.ino)
		defer s.next.served(f.node.ino)
	}
	if err := s.settle(ctx, f.node); err != nil {
		return 0, &Error{"read", f.path, err}
	}
	n, err := s.read(ctx, f, dest, off)
	if err != nil {
		return 0, &Error{"read", f.path, err}
	}
	return n, nil
}

func (s *Shared) read(ctx context.Context, f *sharedFile, dest []byte, off int64) (int, error) {
	if s.o.DirectIO || s.o.NoReadahead {
		return s.readExact(ctx, f, dest, off)
	}
	seen, size := s.tree.changeSeen(f.node)
	changed := f.readAs.Swap(seen) != seen
	if changed {
		s.dropFetched(f, 0, -1) // it is older than what the kernel knows
	}
	if n, ok := f.readFetched(dest, off); ok {
		s.link.metrics.data.count(true)
		return n, nil
	}
	r := f.reader(s)
	if changed {
		r.SetSize(size)
	}
	s.link.metrics.data.count(r.covers(off, min(int64(len(dest)), max(f.told.Load()-off, 1))))
	return r.ReadAt(ctx, dest, off)
}

// reader returns what reads f ahead.
func (f *sharedFile) reader(s *Shared) *readAhead {
	f.readerOnce.Do(func() {
		fetch := func(ctx context.Context, off int64, n int) ([]byte, error) {
			if off >= wideBytes && f.remote.mayWiden() {
				s.tasks.Go(func() { s.widen(s.link.ctx, f) })
			}
			data, err := s.fetch(ctx, f, off, n)
			if err != nil {
				return nil, err
			}
			return data, nil
		}
		packet := basePacket
		if c, _, _ := s.link.state(); c != nil {
			packet = c.packet()
		}
		f.ahead.Store(newReadAhead(fetch, s.reads, packet))
	})
	return f.ahead.Load()
}

// readExact reads what is asked for and nothing else, its parts side by side.
func (s *Shared) readExact(ctx context.Context, f *sharedFile, dest []byte, off int64) (int, error) {
	packet := basePacket
	if c, _, _ := s.link.state(); c != nil {
		packet = c.packet()
	}
	got := make([][]byte, (len(dest)+packet-1)/packet)
	var g errgroup.Group
	for i := range got {
		g.Go(func() (err error) {
			from := i * packet
			got[i], err = s.fetch(ctx, f, off+int64(from), min(packet, len(dest)-from))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	n := 0
	for _, part := range got {
		n += copy(dest[n:], part)
		if len(part) < packet {
			break
		}
	}
	return n, nil
}

// fetch reads n bytes from off, fewer only at the end of the file: one read of the
// node may bring less than was asked for. The end is its EOF, or where the file ended
// when it was opened: one that has grown since is read on by who reads on.
func (s *Shared) fetch(ctx context.Context, f *sharedFile, off int64, n int) ([]byte, error) {
	return onFile(ctx, s, f, func(h remoteHandle) ([]byte, error) {
		var data []byte
		for {
			more, err := h.SendRead(h.id, uint64(off)+uint64(len(data)), n-len(data)).Wait(context.Background())
			if err == io.EOF {
				return data, nil
			}
			if err != nil {
				return nil, err
			}
			if data == nil {
				data = more
			} else {
				data = append(data, more...)
			}
			if len(data) >= n || off+int64(len(data)) == f.told.Load() {
				return data, nil
			}
		}
	})
}
